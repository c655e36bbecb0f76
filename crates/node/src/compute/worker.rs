//! x
/// x
pub async fn run(_port: cdi_platform::port::Port) {}
