//! Randomness from the operating system or the browser.
//!
//! A process without it can make no key that is safe, so its absence aborts: it happens on no system that
//! runs the rest of this program.

/// Fills `bytes` with unpredictable bytes.
///
/// # Panics
/// When the system has no source of randomness.
pub fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has a source of randomness");
}

/// A fresh 32-byte secret, for a key or a generator.
///
/// # Panics
/// When the system has no source of randomness.
#[must_use]
pub fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    fill(&mut seed);
    seed
}

/// A fresh 16-byte identifier: collisions are out of the question.
///
/// # Panics
/// When the system has no source of randomness.
#[must_use]
pub fn id16() -> [u8; 16] {
    let mut id = [0; 16];
    fill(&mut id);
    id
}
