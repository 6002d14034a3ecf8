//! What is to be sent: one slice of responses, in memory that all connections of a worker share.

use memkv_engine::store::LargeValue;

use crate::limits::RESPONSE_SLICE_BYTES;
use crate::protocol::Reply;

/// One slice of responses: bytes, and perhaps one large value and a CRLF behind them.
///
/// A large value is kept by handle and goes to the socket from where it lies. It ends the slice, whatever the slice's length.
#[derive(Default)]
pub struct Output {
    /// Responses, back to back.
    pub bytes: Vec<u8>,
    /// A value to send behind `bytes`, and a CRLF behind that.
    pub large: Option<LargeValue>,
    limit: usize,
}

impl Output {
    /// An empty slice with room for a full one.
    pub fn new() -> Output {
        Output { bytes: Vec::with_capacity(RESPONSE_SLICE_BYTES), large: None, limit: RESPONSE_SLICE_BYTES }
    }

    /// Begins a slice that is full once it holds `limit` bytes.
    pub fn begin(&mut self, limit: usize) {
        self.bytes.clear();
        self.large = None;
        self.limit = limit;
        if self.bytes.capacity() > 2 * RESPONSE_SLICE_BYTES {
            // One outsized response must not stay with the worker for good.
            self.bytes.shrink_to(RESPONSE_SLICE_BYTES);
        }
    }

    /// Whether the slice should be sent before anything else is answered.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= self.limit || self.large.is_some()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.large.is_none()
    }

    /// Adds a fixed line.
    #[inline]
    pub fn reply(&mut self, reply: Reply) {
        self.bytes.extend_from_slice(reply.line());
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("bytes", &self.bytes.len()).field("large", &self.large.is_some()).finish()
    }
}
