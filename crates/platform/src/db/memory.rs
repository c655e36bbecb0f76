//! Tables in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{DbError, Write};

#[derive(Debug, Clone)]
pub(super) struct Tables(Arc<Mutex<State>>);

#[derive(Debug, Clone)]
struct State {
    records: HashMap<(&'static str, String), Vec<u8>>,
    /// Most bytes of values together.
    quota: Option<u64>,
}

impl Tables {
    pub(super) fn new(quota: Option<u64>) -> Self {
        Self(Arc::new(Mutex::new(State { records: HashMap::new(), quota })))
    }

    pub(super) fn get(&self, table: &'static str, key: &str) -> Result<Option<Vec<u8>>, DbError> {
        Ok(self.state().records.get(&(table, key.to_owned())).cloned())
    }

    pub(super) fn keys(&self, table: &'static str) -> Result<Vec<String>, DbError> {
        Ok(self.state().records.keys().filter(|(t, _)| *t == table).map(|(_, key)| key.clone()).collect())
    }

    pub(super) fn scan(&self, table: &'static str) -> Result<Vec<(String, Vec<u8>)>, DbError> {
        let state = self.state();
        let records = state.records.iter().filter(|((t, _), _)| *t == table);
        Ok(records.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    pub(super) fn write(&self, batch: Vec<Write>) -> Result<(), DbError> {
        let mut state = self.state();
        state.check_quota(&batch)?;
        for write in batch {
            match write {
                Write::Put { table, key, value } => state.records.insert((table, key), value),
                Write::Delete { table, key } => state.records.remove(&(table, key)),
            };
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock, so the data is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// As disks do, refuses what would make the data larger than the quota, and never a deletion.
    fn check_quota(&self, batch: &[Write]) -> Result<(), DbError> {
        let Some(quota) = self.quota else { return Ok(()) };
        let size = |value: &Vec<u8>| value.len() as u64;
        let held: u64 = self.records.values().map(size).sum();
        let (mut freed, mut added) = (0, 0);
        for write in batch {
            let (Write::Put { table, key, .. } | Write::Delete { table, key }) = write;
            freed += self.records.get(&(*table, key.clone())).map_or(0, size);
            if let Write::Put { value, .. } = write {
                added += size(value);
            }
        }
        if added > freed && held.saturating_sub(freed) + added > quota { Err(DbError::Full) } else { Ok(()) }
    }
}
