//! The server from outside: over sockets, and through the same sessions without them.

mod auth;
mod cas;
mod client;
mod connections;
mod fairness;
mod hostile;
mod limits;
mod load;
mod loopback_seams;
mod memory;
mod mtop;
mod options;
mod process;
mod program;
mod reactors;
mod rows;
mod stats;
mod support;
mod table;
mod time;
mod unix_socket;
mod walks;
mod watch;
mod wire;
mod wire_admin;
mod wire_meta;
