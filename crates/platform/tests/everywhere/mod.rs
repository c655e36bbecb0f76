//! What holds natively, in a window and in a worker.

mod db;
mod http;
mod lock;
mod port;
mod secret;
mod task;
