//! A connection in memory: for tests, fuzzing and benchmarks.

use std::sync::Arc;

use memkv_engine::clock::Clock;
use memkv_engine::store::{Handle, Store};

use crate::StartError;
use crate::auth::Auth;
use crate::command::Plan;
use crate::config::Config;
use crate::limits::READ_BUFFER_BYTES;
use crate::output::Output;
use crate::protocol::encode::CRLF;
use crate::service::Service;
use crate::session::{Direct, Session, Status, Turn};

/// One client's conversation with a server that has no sockets.
///
/// It does to a [`Session`] what a socket would, one `send` being one packet, so that every way of cutting a conversation into
/// packets can be tried without a network and without depending on time.
///
/// ```
/// use memkv_server::{Config, loopback::Loopback};
///
/// let mut client = Loopback::new(Config::default(), memkv_engine::clock::Clock::system()).unwrap();
/// assert_eq!(client.send(b"set k 0 0 5\r\nhel"), b"");
/// assert_eq!(client.send(b"lo\r\nget k\r\n"), b"STORED\r\nVALUE k 0 5\r\nhello\r\nEND\r\n");
/// ```
pub struct Loopback {
    service: Arc<Service>,
    handle: Handle,
    session: Session,
    plan: Plan,
    output: Output,
    unfinished: Vec<u8>,
    slice_bytes: usize,
    one_slice_a_call: bool,
    closed: bool,
}

impl Loopback {
    /// A client of a new server, whose clock no client can move.
    ///
    /// # Errors
    /// If the store cannot be made with these settings, or names and passwords cannot be read.
    pub fn new(config: Config, clock: Clock) -> Result<Loopback, StartError> {
        let auth = config.auth_file.as_deref().map(Auth::new).transpose().map_err(StartError::Auth)?;
        let store = Store::new(config.store(), clock).map_err(StartError::Store)?;
        Ok(Loopback::with_service(Arc::new(Service::new(store, config, 1).with_auth(auth))))
    }

    /// Another client of the same server.
    pub fn another(&self) -> Loopback {
        Loopback::with_service(Arc::clone(&self.service))
    }

    fn with_service(service: Arc<Service>) -> Loopback {
        Loopback {
            handle: service.store.handle(),
            session: Session::new(&service),
            service,
            plan: Plan::default(),
            output: Output::new(),
            unfinished: Vec::new(),
            slice_bytes: crate::limits::RESPONSE_SLICE_BYTES,
            one_slice_a_call: false,
            closed: false,
        }
    }

    /// Lets responses be sent in slices of this many bytes, to see what happens at the seams.
    pub fn slice_bytes(mut self, bytes: usize) -> Loopback {
        self.slice_bytes = bytes;
        self
    }

    /// Lets each call bring one slice at most, as a client that reads slowly would have it; [`poll`](Self::poll) brings the next.
    pub fn one_slice_a_call(mut self) -> Loopback {
        self.one_slice_a_call = true;
        self
    }

    /// The server behind it.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes that the server keeps for this connection between two packets.
    pub fn owned_bytes(&self) -> usize {
        self.unfinished.len() + self.session.owned_bytes()
    }

    /// Answers what has come up since, for a client that watches or reads slowly.
    pub fn poll(&mut self) -> Vec<u8> {
        let mut answer = Vec::new();
        self.advance(&mut answer);
        answer
    }

    /// Sends bytes in one packet and answers all that comes back.
    pub fn send(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() && !self.closed {
            if let Some(Direct { free, .. }) = self.session.direct(&mut self.handle) {
                let len = free.len().min(rest.len());
                free[..len].copy_from_slice(&rest[..len]);
                self.session.direct_filled(len);
                rest = &rest[len..];
            }
            let len = rest.len().min(READ_BUFFER_BYTES - self.unfinished.len());
            debug_assert!(len > 0 || rest.is_empty(), "a session never leaves a full read buffer unfinished");
            self.unfinished.extend_from_slice(&rest[..len]);
            rest = &rest[len..];
            self.advance(&mut answer);
        }
        answer
    }

    fn advance(&mut self, answer: &mut Vec<u8>) {
        let mut at = 0;
        loop {
            self.output.begin(self.slice_bytes);
            let mut commands_left = self.service.config.commands_per_turn;
            let mut turn = Turn {
                handle: &mut self.handle,
                plan: &mut self.plan,
                output: &mut self.output,
                service: &self.service,
                worker: 0,
                cfd: 0,
                commands_left: &mut commands_left,
                ran_at_s: None,
            };
            let progress = self.session.advance(&self.unfinished[at..], &mut turn);
            at += progress.consumed;
            answer.extend_from_slice(&self.output.bytes);
            if let Some(large) = self.output.large.take() {
                answer.extend_from_slice(&large);
                answer.extend_from_slice(CRLF);
            }
            match progress.status {
                Status::Hungry | Status::Watch => break,
                Status::Full | Status::Yield if self.one_slice_a_call => break,
                Status::Full | Status::Yield => {}
                Status::Close => {
                    self.closed = true;
                    break;
                }
            }
        }
        self.unfinished.drain(..at);
    }
}
