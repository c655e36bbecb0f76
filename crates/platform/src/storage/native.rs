//! Native storage is the user's disk: nobody evicts it.

use super::Estimate;

/// Used and available room; nothing where it is not told, as natively.
pub async fn estimate() -> Option<Estimate> {
    None
}

/// Asks that data be kept until the user deletes it; whether that was granted. Ask when the user chooses to
/// host: some browsers show a question.
pub async fn persist() -> bool {
    true
}
