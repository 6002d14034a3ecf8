//! What the fuzz targets share.
//!
//! - [`conversation`]: how a fuzz input becomes what one client sends, and in which packets.
//! - [`grammar`]: changes inputs command by command, so that whole and nearly whole commands are common.
//! - [`oracle`]: a slow and simple reading of the dialect, which says what each command is answered with.

pub mod conversation;
pub mod grammar;
pub mod oracle;
