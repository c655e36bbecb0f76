//! The metadata: keys and typed values.

use std::collections::BTreeMap;

use super::cursor::Cursor;
use super::{GgufError, MAX_ARRAY, MAX_NAME_BYTES, MAX_TEXT_BYTES};
use crate::range_read::RangeRead;

/// A value of the metadata. Widths are not kept: nothing depends on them.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// Any float. One of 32 bits becomes the decimal that it was most likely written as: 1e-5, not 9.99999974e-6.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(String),
    /// An array that was passed over.
    Array(Array),
}

/// Where an array lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array {
    kind: Kind,
    len: u64,
    offset: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    /// By its number in a file.
    fn new(id: u32) -> Option<Self> {
        use Kind::{Array, Bool, F32, F64, I8, I16, I32, I64, Text, U8, U16, U32, U64};
        let all = [U8, I8, U16, I16, U32, I32, F32, Bool, Text, Array, U64, I64, F64];
        all.get(id as usize).copied()
    }

    /// Bytes of a value; `None` where they vary.
    const fn bytes(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text | Self::Array => None,
        }
    }
}

/// The metadata of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata(BTreeMap<String, Value>);

impl Metadata {
    pub(super) fn read<R: RangeRead + ?Sized>(cursor: &mut Cursor<'_, R>, entries: u64) -> Result<Self, GgufError> {
        let mut map = BTreeMap::new();
        for _ in 0..entries {
            let key = cursor.text("bytes of a key", MAX_NAME_BYTES)?;
            let value = read_entry(cursor, &key)?;
            if map.contains_key(&key) {
                return Err(wrong(&key, "is there twice"));
            }
            map.insert(key, value);
        }
        Ok(Self(map))
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// A number from 0 to 2^32 - 1.
    ///
    /// # Errors
    /// [`GgufError::Metadata`] for a value of another kind.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.typed(key, "expected a number below 2^32", |value| match value {
            Value::Unsigned(n) => u32::try_from(*n).ok(),
            Value::Signed(n) => u32::try_from(*n).ok(),
            _ => None,
        })
    }

    /// A float.
    ///
    /// # Errors
    /// [`GgufError::Metadata`] for a value of another kind.
    pub fn float(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "expected a float", |value| if let Value::Float(v) = value { Some(*v) } else { None })
    }

    /// A truth value.
    ///
    /// # Errors
    /// [`GgufError::Metadata`] for a value of another kind.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "expected a truth value", |value| if let Value::Bool(v) = value { Some(*v) } else { None })
    }

    /// A text.
    ///
    /// # Errors
    /// [`GgufError::Metadata`] for a value of another kind.
    pub fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "expected a text", |value| if let Value::Text(v) = value { Some(v.as_str()) } else { None })
    }

    /// Elements of an array, whatever their kind; `None` where there is no such array.
    #[must_use]
    pub fn array_len(&self, key: &str) -> Option<u64> {
        if let Some(Value::Array(array)) = self.get(key) { Some(array.len) } else { None }
    }

    /// An array of texts, read from the file that these metadata are of.
    ///
    /// # Errors
    /// [`GgufError::Metadata`] for a value of another kind, or whatever reading says.
    pub fn texts<R: RangeRead + ?Sized>(&self, file: &R, key: &str) -> Result<Option<Vec<String>>, GgufError> {
        let kinds = [Kind::Text];
        self.elements(file, key, &kinds, |cursor, _| cursor.text("bytes of a text", MAX_TEXT_BYTES))
    }

    /// An array of 32-bit floats, read from the file that these metadata are of.
    ///
    /// # Errors
    /// [`GgufError::Metadata`] for a value of another kind, or whatever reading says.
    pub fn floats<R: RangeRead + ?Sized>(&self, file: &R, key: &str) -> Result<Option<Vec<f32>>, GgufError> {
        self.elements(file, key, &[Kind::F32], |cursor, _| cursor.bytes().map(f32::from_le_bytes))
    }

    /// An array of 32-bit integers, read from the file that these metadata are of.
    ///
    /// # Errors
    /// [`GgufError::Metadata`] for a value of another kind, or whatever reading says.
    pub fn integers<R: RangeRead + ?Sized>(&self, file: &R, key: &str) -> Result<Option<Vec<i64>>, GgufError> {
        self.elements(file, key, &[Kind::I32, Kind::U32], |cursor, kind| {
            let bytes = cursor.bytes()?;
            Ok(if kind == Kind::I32 { i32::from_le_bytes(bytes).into() } else { u32::from_le_bytes(bytes).into() })
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        self.get(key).map(|value| convert(value).ok_or_else(|| wrong(key, expected))).transpose()
    }

    fn elements<R: RangeRead + ?Sized, T>(
        &self,
        file: &R,
        key: &str,
        kinds: &[Kind],
        read: impl Fn(&mut Cursor<'_, R>, Kind) -> Result<T, GgufError>,
    ) -> Result<Option<Vec<T>>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array { kind, len, offset })) if kinds.contains(kind) => {
                let mut cursor = Cursor::new(file, *offset);
                // Grows as elements are read; no room is made for what is only claimed.
                (0..*len).map(|_| read(&mut cursor, *kind)).collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(wrong(key, &format!("expected an array of {kinds:?}"))),
        }
    }
}

fn read_entry<R: RangeRead + ?Sized>(cursor: &mut Cursor<'_, R>, key: &str) -> Result<Value, GgufError> {
    match read_kind(cursor, key)? {
        Kind::U8 => Ok(Value::Unsigned(cursor.bytes::<1>()?[0].into())),
        Kind::U16 => Ok(Value::Unsigned(u16::from_le_bytes(cursor.bytes()?).into())),
        Kind::U32 => Ok(Value::Unsigned(cursor.u32()?.into())),
        Kind::U64 => Ok(Value::Unsigned(cursor.u64()?)),
        Kind::I8 => Ok(Value::Signed(i8::from_le_bytes(cursor.bytes()?).into())),
        Kind::I16 => Ok(Value::Signed(i16::from_le_bytes(cursor.bytes()?).into())),
        Kind::I32 => Ok(Value::Signed(i32::from_le_bytes(cursor.bytes()?).into())),
        Kind::I64 => Ok(Value::Signed(i64::from_le_bytes(cursor.bytes()?))),
        Kind::F32 => Ok(Value::Float(decimal(f32::from_le_bytes(cursor.bytes()?)))),
        Kind::F64 => Ok(Value::Float(f64::from_le_bytes(cursor.bytes()?))),
        Kind::Bool => match cursor.bytes::<1>()? {
            [0] => Ok(Value::Bool(false)),
            [1] => Ok(Value::Bool(true)),
            _ => Err(wrong(key, "a truth value is 0 or 1")),
        },
        Kind::Text => cursor.text("bytes of a text", MAX_TEXT_BYTES).map(Value::Text),
        Kind::Array => {
            let kind = read_kind(cursor, key)?;
            let len = cursor.count("elements of an array", MAX_ARRAY)?;
            let offset = cursor.position();
            match kind.bytes() {
                Some(bytes) => cursor.skip(len * bytes)?,
                None if kind == Kind::Array => return Err(wrong(key, "an array of arrays is not supported")),
                None => {
                    for _ in 0..len {
                        let bytes = cursor.count("bytes of a text", MAX_TEXT_BYTES)?;
                        cursor.skip(bytes)?;
                    }
                }
            }
            Ok(Value::Array(Array { kind, len, offset }))
        }
    }
}

fn read_kind<R: RangeRead + ?Sized>(cursor: &mut Cursor<'_, R>, key: &str) -> Result<Kind, GgufError> {
    let id = cursor.u32()?;
    Kind::new(id).ok_or_else(|| wrong(key, &format!("unknown kind {id}")))
}

/// The shortest decimal that a 32-bit float is the nearest of.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

fn wrong(key: &str, reason: &str) -> GgufError {
    GgufError::Metadata { key: key.to_owned(), reason: reason.to_owned() }
}
