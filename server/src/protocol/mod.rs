//! memcached's text protocol as pure functions on byte slices: bytes in, [`Request`]s out; responses in, bytes out.
//!
//! Nothing here reads a socket, a clock or the store. A request is plain data: what it names lies in the input, and is
//! referred to by position ([`Span`]), so that a whole pipeline is parsed without an allocation and can be looked at several
//! times (to hash its keys, to fetch them ahead, to execute).
//!
//! Read in this order: [`request`] (what can be asked), [`parse`] (command lines and key lists), [`meta`] (the meta commands and their
//! flags) with [`base64`], [`admin`] (administration, statistics, watching), [`number`] (how memcached reads numbers), [`encode`] (what is answered).

pub mod admin;
pub mod base64;
pub mod encode;
pub mod meta;
pub mod number;
pub mod parse;
pub mod request;

/// The slab class that is shown wherever memcached shows one: there is one log for items of all sizes.
pub const CLASS: u32 = 1;

pub use encode::Reply;
pub use meta::Meta;
pub use request::{Arith, Key, KeyIndex, Keys, Request, Retrieve, Span, Stop, Store, TimeStep, Verb};
