//! scaffold
pub mod counter;
pub mod map;
mod sync;
mod table;
