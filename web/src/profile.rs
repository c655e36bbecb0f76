//! What this browser keeps for its user: the account, conversations and settings. (What the node keeps is its own affair;
//! see `start`.)

use std::rc::Rc;

use cdi_platform::db::DbError;
use cdi_platform::kv::KeyValue;
use cdi_platform::secret::Protection;
use cdi_platform::time::unix_ms;
use cdi_platform::{Place, tab};
use cdi_store::account::{self, AccountError, Accounts};
use cdi_types::Keypair;
use futures::lock::Mutex;

use crate::state::{Action, Chat, Keep, Parameters};

const STORE: &str = "page";
const PARAMETERS: &str = "parameters";
const CHAT_PREFIX: &str = "chat-";
/// Most bytes of a conversation that is read; the reducer's own bounds keep what is written far below.
const MAX_CHAT_BYTES: usize = 4 << 20;
/// Set for the next page load, which then erases before anything is open; `boot.js` reads both names.
const ERASE_ITEM: &str = "cdi-erase";
const CHANNEL: &str = "cdi";

/// The user's side of the browser's storage. Clones share it.
#[derive(Clone)]
pub struct Profile(Rc<Inner>);

struct Inner {
    place: Place,
    /// Opened at first use.
    stores: Mutex<Option<Stores>>,
}

#[derive(Clone)]
struct Stores {
    values: KeyValue,
    accounts: Accounts,
}

/// The account as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    /// Its `did:key`.
    pub did: String,
    /// How it is kept.
    pub protection: Protection,
}

impl Profile {
    /// The profile of the browser, or of memory alone.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self(Rc::new(Inner { place, stores: Mutex::new(None) }))
    }

    async fn stores(&self) -> Result<Stores, AccountError> {
        let mut stores = self.0.stores.lock().await;
        if let Some(stores) = &*stores {
            return Ok(stores.clone());
        }
        let values = KeyValue::open(&self.0.place, STORE).await?;
        let opened = Stores { values, accounts: Accounts::open(&self.0.place).await? };
        Ok(stores.insert(opened).clone())
    }

    /// The account of this browser, made on the first visit.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn account(&self) -> Result<AccountView, AccountError> {
        let accounts = self.stores().await?.accounts;
        Ok(view(&accounts.load_or_create().await?, &accounts))
    }

    /// The account sealed with a passphrase.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn export(&self, passphrase: &str) -> Result<String, AccountError> {
        let account = self.stores().await?.accounts.load_or_create().await?;
        account::export(&account, passphrase)
    }

    /// Makes an exported account the one of this browser.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn import(&self, text: &str, passphrase: &str) -> Result<AccountView, AccountError> {
        let account = account::import(text, passphrase)?;
        let accounts = self.stores().await?.accounts;
        accounts.replace(&account).await?;
        Ok(view(&account, &accounts))
    }

    /// What was kept at earlier visits. What cannot be read is left alone and left out.
    ///
    /// # Errors
    /// [`AccountError::Db`] when storage fails.
    pub async fn restore(&self) -> Result<Action, AccountError> {
        let values = self.stores().await?.values;
        let mut chats = Vec::new();
        for key in values.keys().await? {
            if key.starts_with(CHAT_PREFIX) {
                chats.extend(read::<Chat>(&values, &key).await?.filter(|chat| chat_key(&chat.id) == key));
            }
        }
        chats.sort_by_key(|chat| std::cmp::Reverse(chat.changed_ms));
        Ok(Action::Restored { chats, parameters: read::<Parameters>(&values, PARAMETERS).await? })
    }

    /// Stores or forgets.
    ///
    /// # Errors
    /// [`AccountError::Db`] when storage fails or is full.
    pub async fn keep(&self, what: Keep) -> Result<(), AccountError> {
        let values = self.stores().await?.values;
        match what {
            Keep::Chat(mut chat) => {
                chat.changed_ms = unix_ms();
                write(&values, &chat_key(&chat.id), &chat).await?;
            }
            Keep::Forget(id) => values.delete(&chat_key(&id)).await?,
            Keep::Parameters(parameters) => write(&values, PARAMETERS, &parameters).await?,
        }
        Ok(())
    }
}

impl PartialEq for Profile {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// Erases everything that this page stored: loads the page again, in every tab, and `boot.js` erases before any store is
/// open.
pub fn erase() {
    tab::remember(ERASE_ITEM, "1");
    if let Ok(channel) = web_sys::BroadcastChannel::new(CHANNEL) {
        // Without other tabs nobody has to hear it.
        let _unheard = channel.post_message(&"erase".into());
        channel.close();
    }
    if let Some(window) = web_sys::window() {
        let _same_page = window.location().reload();
    }
}

fn view(account: &Keypair, accounts: &Accounts) -> AccountView {
    AccountView { did: account.public().did_key(), protection: accounts.protection() }
}

fn chat_key(id: &str) -> String {
    format!("{CHAT_PREFIX}{id}")
}

async fn read<T: serde::de::DeserializeOwned>(values: &KeyValue, key: &str) -> Result<Option<T>, DbError> {
    let stored = values.get(key).await?.filter(|stored| stored.len() <= MAX_CHAT_BYTES);
    Ok(stored.and_then(|stored| serde_json::from_slice(&stored).ok()))
}

async fn write<T: serde::Serialize>(values: &KeyValue, key: &str, value: &T) -> Result<(), DbError> {
    let bytes = serde_json::to_vec(value).map_err(|error| DbError::Failed(error.to_string()))?;
    values.put(key, &bytes).await
}

#[cfg(test)]
mod tests {
    use cdi_platform::testing::async_test;

    use super::*;
    use crate::state::archive::KeptTurn;

    #[async_test]
    async fn what_is_kept_comes_back_newest_first() {
        let profile = Profile::new(Place::memory());
        let chat = |id: &str| Chat { id: id.into(), changed_ms: 0, turns: vec![KeptTurn::default()] };
        for id in ["a", "b", "c"] {
            profile.keep(Keep::Chat(chat(id))).await.expect("kept");
        }
        profile.keep(Keep::Forget("b".into())).await.expect("forgotten");
        let set = Parameters { top_k: 5, ..Parameters::default() };
        profile.keep(Keep::Parameters(set.clone())).await.expect("kept");
        let stores = profile.stores().await.expect("open");
        stores.values.put("chat-x", b"no conversation").await.expect("puts");
        let Ok(Action::Restored { chats, parameters }) = profile.restore().await else { panic!("restored") };
        assert_eq!((chats.len(), parameters), (2, Some(set)));
        assert!(chats.iter().all(|chat| chat.id != "b" && chat.changed_ms > 0));
    }

    #[async_test]
    async fn an_account_moves_from_one_browser_to_another() {
        let (here, there) = (Profile::new(Place::memory()), Profile::new(Place::memory()));
        let mine = here.account().await.expect("an account");
        assert_eq!(here.account().await.expect("the same"), mine);
        let text = here.export("correct horse").await.expect("exports");
        assert_ne!(there.account().await.expect("another").did, mine.did);
        assert_eq!(there.import(&text, "correct horse").await.expect("imports").did, mine.did);
        assert_eq!(there.account().await.expect("the same").did, mine.did);
    }
}
