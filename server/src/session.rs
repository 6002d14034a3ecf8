//! A connection without its socket: bytes in, bytes out.
//!
//! A [`Session`] knows where in the protocol a client is: between commands, inside a value, inside a key list that is answered
//! in pieces, inside a block that is thrown away. [`Session::advance`] takes the bytes that are there, runs as many commands
//! as it may under one batch, and says how far it came and what it is waiting for. It does no I/O and keeps no input: what is
//! not consumed is the caller's to show again with more behind it.
//!
//! The same code serves sockets ([`connection`](crate::connection)) and tests ([`Loopback`](crate::loopback::Loopback)).

use std::sync::Arc;

use memchr::memchr;
use memkv_engine::store::{Handle, LargeBuf, Mode, NewValue, StoreError};

use crate::auth::{self, Token};
use crate::command::{self, Plan, Ran, Scene, Step};
use crate::limits::{BATCH_COMMANDS_MAX, READ_BUFFER_BYTES, VALUE_GROWTH_BYTES};
use crate::meta;
use crate::output::Output;
use crate::protocol::admin::Topic;
use crate::protocol::encode::CRLF;
use crate::protocol::meta::{Refusal, Verb, key_bytes, line as parse_meta};
use crate::protocol::parse::{self, Block, Line, ListEnd};
use crate::protocol::{Key, KeyIndex, Meta, Reply, Request, Retrieve, Span, Stop, Store, TimeStep};
use crate::roster::Doing;
use crate::service::Service;
use crate::walk::{self, Order, Walking};
use crate::watch::{Observer, Watcher, Watching};

/// Keys of one multi-get that are looked up under one batch when its line is answered in pieces.
const PIECE_KEYS_MAX: usize = 1024;

/// What a turn works with; all of it belongs to the worker, but for the number of commands.
pub struct Turn<'t> {
    /// The worker's way into the store.
    pub handle: &'t mut Handle,
    /// The worker's plan, whatever is in it.
    pub plan: &'t mut Plan,
    /// Where the answers go.
    pub output: &'t mut Output,
    /// What all connections share.
    pub service: &'t Arc<Service>,
    /// The worker's number.
    pub worker: usize,
    /// The connection's descriptor, for log lines.
    pub cfd: i32,
    /// How many commands may still run before the others get their turn (`-R`).
    pub commands_left: &'t mut usize,
    /// When the last command ran, in seconds of the store's clock, if one did.
    pub ran_at_s: Option<u32>,
}

impl<'t> Turn<'t> {
    /// What commands belong to, beside the store.
    fn scene(&self) -> Scene<'t> {
        Scene { service: self.service, worker: self.worker, observer: Observer::new(self.service, self.cfd) }
    }
}

/// What the session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// More input.
    Hungry,
    /// The output is full: send it and go on with the rest of the input.
    Full,
    /// The commands of this turn are used up; go on with the rest of the input when the others had theirs.
    Yield,
    /// Log lines, and the end of the stream.
    Watch,
    /// Nothing: send the output and close.
    Close,
}

/// Memory for the next bytes of a value.
#[derive(Debug)]
pub struct Direct<'s> {
    /// Where they go.
    pub free: &'s mut [u8],
    /// Whether that is all that the value lacks: what comes next is no part of it.
    pub is_all: bool,
}

/// How far a call of [`Session::advance`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Input bytes that are done with.
    pub consumed: usize,
    /// What the session waits for.
    pub status: Status,
}

/// Where in the protocol a client is.
#[derive(Debug, Default)]
pub struct Session {
    state: State,
    /// Whether the client has to show first that it may use the server.
    locked: bool,
}

#[derive(Debug, Default)]
enum State {
    /// Between commands.
    #[default]
    Commands,
    /// Inside the key list of a multi-get; the keys before the input's first byte have been answered, if there were `any`.
    Keys { retrieve: Retrieve, any: bool },
    /// Inside the value of a storage command that does not fit into the read buffer, or right behind it.
    Value(Box<Receiving>),
    /// Inside a data block that nobody wants.
    Swallow { left: u64, reply: Option<Reply> },
    /// Inside a line that is too long to be kept.
    SkipLine(Reply),
    /// Inside the answer to a command that walks over all items.
    Walk(Box<Walking>),
    /// Watching, for the rest of the connection's life.
    Watch(Watching),
    /// Inside a name and a password, or right behind them.
    Token(Box<Token>),
}

/// A value on its way in.
struct Receiving {
    command: Storing,
    key: Box<[u8]>,
    body: Body,
    /// How much of the value has arrived.
    filled: usize,
}

/// The command that a value belongs to.
#[derive(Debug)]
enum Storing {
    Classic(Store),
    Meta(Box<Meta>),
}

impl Storing {
    fn key(&self) -> KeyIndex {
        match self {
            Storing::Classic(store) => store.key,
            Storing::Meta(meta) => meta.key,
        }
    }

    fn value_len(&self) -> u32 {
        match self {
            Storing::Classic(store) => store.value_len,
            Storing::Meta(meta) => meta.value_len,
        }
    }

    fn mode(&self) -> Mode {
        match self {
            Storing::Classic(store) => command::mode(store.verb),
            Storing::Meta(meta) => meta::mode(meta),
        }
    }

    /// The line for an error, if the client wants one; ms gets it even if it is quiet (protocol 4.1.11, 5.5).
    fn error(&self, reply: Reply) -> Option<Reply> {
        match self {
            Storing::Classic(store) => (!store.noreply).then_some(reply),
            Storing::Meta(_) => Some(reply),
        }
    }
}

/// Where a value is collected.
enum Body {
    /// Right where it will live.
    Large(LargeBuf),
    /// In the connection's own memory, which grows as the value arrives.
    Own(Vec<u8>),
}

/// Where planning ended.
enum Tail {
    /// The input is used up to this position, and the rest is not a whole command yet.
    Hungry(usize),
    /// As many commands as allowed are planned; the input goes on at this position.
    Limit(usize),
    /// The client is done, or is none.
    Close,
    /// The plan ends with something to be done to the server as a whole; the input goes on at this position.
    Control(Control, usize),
    /// A value follows at this position that does not fit into the read buffer.
    Value(Storing, usize),
    /// At this position the session goes on in this state.
    Enter(State, usize),
    /// A walk over all items is to be made; the input goes on at this position.
    Walk(Order, usize),
    /// These streams are to be watched; the input goes on at this position.
    Watch(u32, usize),
}

/// What is done to the server as a whole, when the commands before it have been.
#[derive(Clone, Copy, Debug)]
enum Control {
    Stop(Stop),
    Time(TimeStep),
}

impl Session {
    /// A client that has just come.
    pub fn new(service: &Service) -> Session {
        Session { state: State::Commands, locked: service.auth.is_some() }
    }

    /// Whether the client is between commands, and nothing has begun that would be lost if it went.
    pub fn is_between_commands(&self) -> bool {
        matches!(self.state, State::Commands)
    }

    /// Runs what `input` holds, which begins where the last call's `consumed` ended.
    pub fn advance(&mut self, input: &[u8], turn: &mut Turn<'_>) -> Progress {
        turn.service.inject_fault(input);
        let mut at = 0;
        loop {
            let step = match &mut self.state {
                State::Commands if self.locked => self.locked_line(input, &mut at, turn),
                State::Commands => self.commands(input, &mut at, turn),
                State::Token(_) => self.token(input, &mut at, turn),
                State::Keys { retrieve, any } => {
                    let (retrieve, any) = (*retrieve, *any);
                    self.keys(retrieve, any, input, &mut at, turn)
                }
                State::Value(_) => self.value(input, &mut at, turn),
                State::Swallow { left, reply } => {
                    let taken = (input.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    at += taken;
                    if *left > 0 {
                        Some(Status::Hungry)
                    } else {
                        let reply = reply.take();
                        self.resume(reply, turn)
                    }
                }
                State::Walk(walking) => match walking.step(turn) {
                    walk::Step::Full => Some(Status::Full),
                    walk::Step::Pause => Some(Status::Yield),
                    walk::Step::Done => self.resume(None, turn),
                },
                State::Watch(watching) => {
                    // Whatever a watcher says is ignored (protocol 11).
                    at = input.len();
                    watching.drain(turn.output);
                    Some(if turn.output.is_full() { Status::Full } else { Status::Watch })
                }
                State::SkipLine(reply) => match memchr(b'\n', &input[at..]) {
                    None => {
                        at = input.len();
                        Some(Status::Hungry)
                    }
                    Some(len) => {
                        at += len + 1;
                        let reply = *reply;
                        self.resume(Some(reply), turn)
                    }
                },
            };
            if let Some(status) = step {
                return Progress { consumed: at, status };
            }
        }
    }

    /// Memory that stands ready for the next bytes of a value: reading straight into it saves a copy. Takes it from the store if need
    /// be, so call it when there is something to read, not before.
    pub fn direct(&mut self, handle: &mut Handle) -> Option<Direct<'_>> {
        let State::Value(receiving) = &mut self.state else { return None };
        if !receiving.make_room(handle) {
            self.give_up_value(handle);
            return None;
        }
        // Asked again, because the borrow checker does not see that the state has stayed the same.
        let State::Value(receiving) = &mut self.state else { return None };
        let left = receiving.left();
        let free = receiving.free();
        if free.is_empty() { None } else { Some(Direct { is_all: free.len() == left, free }) }
    }

    /// Gives up what is still to be answered. Between the keys of a multi-get an error takes the place of what was to come, and
    /// the conversation goes on (protocol 6.8). Says whether that was so: if not, the connection should be closed.
    pub fn cut_short(&mut self) -> bool {
        let inside = matches!(self.state, State::Keys { .. });
        if inside {
            self.state = State::SkipLine(Reply::NoMemoryToAnswer);
        }
        inside
    }

    /// Says that the first `len` bytes of [`direct`](Self::direct) have been filled.
    pub fn direct_filled(&mut self, len: usize) {
        match &mut self.state {
            State::Value(receiving) => receiving.filled += len,
            _ => debug_assert!(len == 0, "only a value is received directly"),
        }
    }

    /// How much of a value is still to come.
    pub fn awaited_bytes(&self) -> usize {
        match &self.state {
            State::Value(receiving) => receiving.left(),
            _ => 0,
        }
    }

    /// What it is doing, for `stats conns`.
    pub fn doing(&self) -> Doing {
        match &self.state {
            State::Commands | State::Keys { .. } | State::SkipLine(_) => Doing::Reading,
            State::Value(_) | State::Token(_) => Doing::Receiving,
            State::Swallow { .. } => Doing::Swallowing,
            State::Walk(_) => Doing::Writing,
            State::Watch(_) => Doing::Watching,
        }
    }

    /// The queue of a session that watches.
    pub fn watcher(&self) -> Option<&Arc<Watcher>> {
        match &self.state {
            State::Watch(watching) => Some(&watching.watcher),
            _ => None,
        }
    }

    /// Bytes of memory that this session owns beyond itself, large values of the store aside.
    pub fn owned_bytes(&self) -> usize {
        match &self.state {
            State::Value(receiving) => {
                let body = match &receiving.body {
                    Body::Large(_) => 0,
                    Body::Own(bytes) => bytes.capacity(),
                };
                size_of::<Receiving>() + receiving.key.len() + body
            }
            State::Walk(walking) => walking.owned_bytes(),
            State::Token(token) => token.owned_bytes(),
            _ => 0,
        }
    }

    /// Gives up a value that there is no memory for (protocol 6.4): the rest is thrown away as it comes, and then the client is told.
    fn give_up_value(&mut self, handle: &mut Handle) {
        let State::Value(receiving) = std::mem::take(&mut self.state) else {
            unreachable!("called inside a value only")
        };
        let left = receiving.left() as u64 + CRLF.len() as u64;
        let Receiving { command, key, body, .. } = *receiving;
        // Its memory first: others may be waiting for it.
        drop(body);
        let mut batch = handle.batch();
        let hash = batch.hash(&key);
        batch.refuse(command.mode(), &key, hash, StoreError::OutOfMemory);
        self.state = State::Swallow { left, reply: command.error(Reply::NoMemoryToReceive) };
    }

    /// Back to commands, after a last word about what was there.
    fn resume(&mut self, reply: Option<Reply>, turn: &mut Turn<'_>) -> Option<Status> {
        if let Some(reply) = reply {
            turn.output.reply(reply);
        }
        self.state = State::Commands;
        None
    }

    /// Takes a line of a client that has not been admitted.
    fn locked_line(&mut self, input: &[u8], at: &mut usize, turn: &mut Turn<'_>) -> Option<Status> {
        if *turn.commands_left == 0 {
            return Some(if *at == input.len() { Status::Hungry } else { Status::Yield });
        }
        *turn.commands_left -= 1;
        match auth::line(&input[*at..]) {
            auth::Line::Incomplete => Some(Status::Hungry),
            auth::Line::Hangup => Some(Status::Close),
            auth::Line::Refused(next) => {
                *at += next;
                self.resume(Some(Reply::Unauthenticated), turn)
            }
            auth::Line::Oversized { len, next } => {
                *at += next;
                let left = u64::from(len) + CRLF.len() as u64;
                self.state = State::Swallow { left, reply: Some(Reply::TokenTooLong) };
                None
            }
            auth::Line::Token { len, next } => {
                *at += next;
                self.state = State::Token(Box::new(Token::new(len)));
                None
            }
        }
    }

    /// Takes more of a name and a password; judges them when they are there.
    fn token(&mut self, input: &[u8], at: &mut usize, turn: &mut Turn<'_>) -> Option<Status> {
        let State::Token(token) = &mut self.state else { unreachable!("called inside a token only") };
        *at += token.take(&input[*at..]);
        if !token.is_complete() {
            return Some(Status::Hungry);
        }
        let Some(end) = input.get(*at..*at + CRLF.len()) else {
            return Some(Status::Hungry);
        };
        *at += CRLF.len();
        let Some(auth) = &turn.service.auth else { unreachable!("without users nobody is asked") };
        let (reply, admitted) = token.judge(end, auth);
        self.locked = !admitted;
        self.resume(Some(reply), turn)
    }

    /// Plans and runs whole commands.
    fn commands(&mut self, input: &[u8], at: &mut usize, turn: &mut Turn<'_>) -> Option<Status> {
        if *turn.commands_left == 0 {
            return Some(if *at == input.len() { Status::Hungry } else { Status::Yield });
        }
        turn.plan.clear();
        let commands_max = (*turn.commands_left).min(BATCH_COMMANDS_MAX);
        let tail = plan(input, *at, commands_max, turn);
        *turn.commands_left -= turn.plan.steps.len().min(*turn.commands_left);
        if !turn.plan.steps.is_empty() {
            match run(input, turn) {
                Ran::All => {}
                Ran::Before(position) => {
                    *at = position;
                    return Some(Status::Full);
                }
                Ran::Inside(retrieve, position) => {
                    *at = position;
                    self.state = State::Keys { retrieve, any: true };
                    return Some(Status::Full);
                }
            }
        }
        match tail {
            Tail::Hungry(position) => {
                *at = position;
                Some(Status::Hungry)
            }
            Tail::Limit(position) => {
                *at = position;
                // Either the turn ends here, or one batch was not enough for all of its commands.
                (*turn.commands_left == 0).then_some(if position == input.len() {
                    Status::Hungry
                } else {
                    Status::Yield
                })
            }
            Tail::Close => Some(Status::Close),
            Tail::Control(Control::Stop(stop), _) => {
                turn.service.request_stop(stop);
                Some(Status::Close)
            }
            Tail::Control(Control::Time(step), position) => {
                *at = position;
                // Its batch is over, so the next one reads the new time.
                let reply = if turn.service.change_time(step) { Reply::Ok } else { Reply::Error };
                self.resume(Some(reply), turn)
            }
            Tail::Value(command, position) => {
                *at = position;
                self.begin_value(command, input, turn);
                None
            }
            Tail::Enter(state, position) => {
                *at = position;
                self.state = state;
                None
            }
            Tail::Walk(order, position) => {
                *at = position;
                *turn.commands_left = turn.commands_left.saturating_sub(1);
                match Walking::begin(order, turn) {
                    Ok(walking) => self.state = State::Walk(Box::new(walking)),
                    Err(reply) => turn.output.reply(reply),
                }
                None
            }
            Tail::Watch(streams, position) => {
                *at = position;
                let begun = if turn.output.is_empty() {
                    Watching::begin(turn.service, streams)
                } else {
                    Err(Reply::PipelinedWatch)
                };
                match begun {
                    Ok(watching) => {
                        turn.output.reply(Reply::Ok);
                        self.state = State::Watch(watching);
                    }
                    Err(reply) => turn.output.reply(reply),
                }
                None
            }
        }
    }

    /// Answers more keys of a multi-get.
    fn keys(
        &mut self,
        retrieve: Retrieve,
        any: bool,
        input: &[u8],
        at: &mut usize,
        turn: &mut Turn<'_>,
    ) -> Option<Status> {
        turn.plan.clear();
        let end = parse::key_list(input, *at, PIECE_KEYS_MAX, &mut turn.plan.keys);
        let any = any || !turn.plan.keys.is_empty();
        if let ListEnd::Newline(next) = end
            && !any
        {
            // Spaces and no key: the same as in a line that is seen as a whole (protocol 1.6).
            *at = next;
            return self.resume(Some(Reply::BadLine), turn);
        }
        turn.plan.push(Step::MoreKeys { retrieve, last: matches!(end, ListEnd::Newline(_)) }, *at);
        let full = turn.plan.keys.len() == PIECE_KEYS_MAX;
        match run(input, turn) {
            Ran::All => {}
            Ran::Before(_) => return Some(Status::Full),
            Ran::Inside(_, position) => {
                *at = position;
                self.state = State::Keys { retrieve, any };
                return Some(Status::Full);
            }
        }
        match end {
            ListEnd::Newline(next) => {
                *at = next;
                self.state = State::Commands;
                None
            }
            ListEnd::Open(position) => {
                *at = position;
                self.state = State::Keys { retrieve, any };
                (!full).then_some(Status::Hungry)
            }
            ListEnd::BadKey(position) => {
                // The values before it are on their way, so the error stands in the place of END (see protocol 2.2).
                *at = position;
                self.state = State::SkipLine(Reply::BadLine);
                None
            }
        }
    }

    /// Prepares for a value that does not fit into the read buffer.
    fn begin_value(&mut self, command: Storing, input: &[u8], turn: &mut Turn<'_>) {
        let key = key_bytes(turn.plan.keys[command.key() as usize].span, input, &turn.plan.decoded);
        let len = command.value_len() as usize;
        let body = if turn.handle.store().is_large(key.len(), len) {
            turn.handle.reserve(len).map(Body::Large)
        } else {
            Ok(Body::Own(Vec::new()))
        };
        self.state = match body {
            Ok(body) => State::Value(Box::new(Receiving { command, key: key.into(), body, filled: 0 })),
            Err(error) => {
                let mut batch = turn.handle.batch();
                let hash = batch.hash(key);
                batch.refuse(command.mode(), key, hash, error);
                let reply = command.error(command::refusal(error));
                State::Swallow { left: u64::from(command.value_len()) + CRLF.len() as u64, reply }
            }
        };
    }

    /// Takes more of a value; stores it when it is there and properly ended.
    fn value(&mut self, input: &[u8], at: &mut usize, turn: &mut Turn<'_>) -> Option<Status> {
        let State::Value(receiving) = &mut self.state else { unreachable!("called inside a value only") };
        while receiving.left() > 0 {
            if *at == input.len() {
                return Some(Status::Hungry);
            }
            if !receiving.make_room(turn.handle) {
                self.give_up_value(turn.handle);
                return None;
            }
            *at += receiving.take(&input[*at..]);
        }
        let Some(end) = input.get(*at..*at + CRLF.len()) else {
            return Some(Status::Hungry);
        };
        *at += CRLF.len();
        let State::Value(receiving) = std::mem::take(&mut self.state) else { unreachable!("checked above") };
        let Receiving { command, key, body, .. } = *receiving;
        *turn.commands_left = turn.commands_left.saturating_sub(1);
        if end != CRLF {
            return self.resume(command.error(Reply::BadChunk), turn);
        }
        let scene = turn.scene();
        let mut batch = turn.handle.batch();
        turn.ran_at_s = Some((batch.now().mono_ms / 1000) as u32);
        let hash = batch.hash(&key);
        if turn.plan.sampler.pass(1).is_some() {
            scene.note_key(&key, hash);
        }
        let value = match body {
            Body::Large(large) => NewValue::Large(large),
            Body::Own(ref bytes) => NewValue::Bytes(bytes),
        };
        let reply = match command {
            Storing::Classic(store) => {
                let named = Key { span: Span::new(0..key.len()), hash };
                let reply = command::store(&store, named, &key, value, &mut batch, scene.observer);
                (!store.noreply).then_some(reply)
            }
            Storing::Meta(meta) => {
                meta::store(&meta, &key, hash, value, &mut batch, turn.output, scene.observer);
                None
            }
        };
        drop(batch);
        if scene.observer.is_on() {
            scene.observer.batch_done();
        }
        self.resume(reply, turn)
    }
}

/// Runs the turn's plan under a batch of its own.
fn run(input: &[u8], turn: &mut Turn<'_>) -> Ran {
    let scene = turn.scene();
    let mut batch = turn.handle.batch();
    turn.ran_at_s = Some((batch.now().mono_ms / 1000) as u32);
    command::run(turn.plan, input, &mut batch, turn.output, scene)
}

/// Plans the commands that begin at `at`, as long as they are whole, but no more than `commands_max`.
fn plan(input: &[u8], mut at: usize, commands_max: usize, turn: &mut Turn<'_>) -> Tail {
    let plan = &mut *turn.plan;
    loop {
        if at == input.len() {
            return Tail::Hungry(at);
        }
        if plan.steps.len() >= commands_max {
            return Tail::Limit(at);
        }
        let start = at;
        match parse::command_line(input, at, &mut plan.keys) {
            Line::Request { request: Request::Store(store), next } => {
                let key = plan.keys[store.key as usize].span;
                if !turn.handle.store().fits(key.len as usize, store.flags, store.value_len as usize) {
                    let reply = (!store.noreply).then_some(Reply::TooLarge);
                    let Store { verb, key, value_len, .. } = store;
                    let mode = command::mode(verb);
                    let Some(next) = block_end(input, next, value_len) else {
                        plan.push(Step::Refuse { mode, key, reply: None }, start);
                        return swallow(next, value_len, reply);
                    };
                    plan.push(Step::Refuse { mode, key, reply }, start);
                    at = next;
                    continue;
                }
                match parse::data_block(input, next, store.value_len) {
                    Block::Complete(value) => {
                        at = value.end() + CRLF.len();
                        plan.push(Step::Store { store, value }, start);
                    }
                    Block::Unterminated(next) => {
                        at = next;
                        plan.keys.pop();
                        if !store.noreply {
                            plan.push(Step::Reply(Reply::BadChunk), start);
                        }
                    }
                    Block::Incomplete if next - start + store.value_len as usize + CRLF.len() <= READ_BUFFER_BYTES => {
                        // It fits into the read buffer, so it is easiest to look at the whole command again.
                        return Tail::Hungry(start);
                    }
                    Block::Incomplete => return Tail::Value(Storing::Classic(store), next),
                }
            }
            Line::Meta { verb, rest, next } => {
                match plan_meta(verb, Span::new(start..next), rest, input, plan, turn.handle.store()) {
                    Ok(next) => at = next,
                    Err(tail) => return tail,
                }
            }
            Line::Request { request: Request::Quit, .. } | Line::Hangup => return Tail::Close,
            Line::Request { request: Request::Walk(walk), next } => return Tail::Walk(Order::Plain(walk), next),
            Line::Request { request: Request::Watch(streams), next } => return Tail::Watch(streams, next),
            Line::Request { request: Request::Shutdown { stop, noreply }, next } => {
                let reply = match stop {
                    _ if !turn.service.config.shutdown_allowed => Reply::ShutdownDisabled,
                    None => Reply::BadShutdown,
                    Some(stop) => return Tail::Control(Control::Stop(stop), next),
                };
                at = next;
                if !noreply {
                    plan.push(Step::Reply(reply), start);
                }
            }
            // Where it is not enabled, it is a word like any other that nobody knows.
            Line::Request { request: Request::DebugTime(_), next } if !turn.service.config.debug_commands => {
                let Some(reply) = parse::unknown_command(input, start, next) else { return Tail::Close };
                at = next;
                if let Some(reply) = reply {
                    plan.push(Step::Reply(reply), start);
                }
            }
            Line::Request { request: Request::DebugTime(step), next } => {
                let Some(step) = step else {
                    plan.push(Step::Reply(Reply::BadLine), start);
                    at = next;
                    continue;
                };
                return Tail::Control(Control::Time(step), next);
            }
            Line::Request { request, next } => {
                plan.push(Step::Run(request), start);
                at = next;
                if matches!(request, Request::Stats(Topic::DetailOn | Topic::DetailOff)) {
                    // What is observed is looked up once a plan.
                    return Tail::Limit(at);
                }
            }
            Line::Refused { reply, next, swallow: block } => {
                at = next;
                if let Some(value_len) = block {
                    let Some(next) = block_end(input, next, value_len) else {
                        return swallow(next, value_len, reply);
                    };
                    at = next;
                }
                if let Some(reply) = reply {
                    plan.push(Step::Reply(reply), start);
                }
            }
            Line::Incomplete => return Tail::Hungry(start),
            Line::EndlessKeys { retrieve, keys } => return Tail::Enter(State::Keys { retrieve, any: false }, keys),
            Line::EndlessLine(reply) => return Tail::Enter(State::SkipLine(reply), start),
        }
    }
}

/// Plans a meta command, whose line is `line`, with its value if it has one. Answers where the next command begins, or that the
/// planning ends here.
fn plan_meta(
    verb: Verb,
    line: Span,
    rest: Span,
    input: &[u8],
    plan: &mut Plan,
    items: &memkv_engine::store::Store,
) -> Result<usize, Tail> {
    let (start, next) = (line.start as usize, line.end());
    let meta = match parse_meta(verb, rest, input, &mut plan.keys, &mut plan.decoded) {
        Ok(meta) => meta,
        Err(Refusal { reply, swallow: None }) => {
            plan.push(Step::Reply(reply), start);
            return Ok(next);
        }
        Err(Refusal { reply, swallow: Some(value_len) }) => {
            let next = block_end(input, next, value_len).ok_or_else(|| swallow(next, value_len, Some(reply)))?;
            plan.push(Step::Reply(reply), start);
            return Ok(next);
        }
    };
    if matches!(verb, Verb::List | Verb::Purge) {
        let span = plan.keys.pop().map_or(Span::default(), |key| key.span);
        let prefix = key_bytes(span, input, &plan.decoded).into();
        return Err(Tail::Walk(Order::Prefix(Box::new(meta), prefix), next));
    }
    let index = plan.metas.len() as u32;
    if verb != Verb::Set {
        plan.push(Step::Meta(index), start);
        plan.metas.push(meta);
        return Ok(next);
    }
    let value_len = meta.value_len;
    let key_len = plan.keys[meta.key as usize].span.len as usize;
    if !items.fits(key_len, meta.client_flags, value_len as usize) {
        let refuse = |reply| Step::Refuse { mode: meta::mode(&meta), key: meta.key, reply };
        let Some(next) = block_end(input, next, value_len) else {
            plan.push(refuse(None), start);
            return Err(swallow(next, value_len, Some(Reply::TooLarge)));
        };
        plan.push(refuse(Some(Reply::TooLarge)), start);
        return Ok(next);
    }
    match parse::data_block(input, next, value_len) {
        Block::Complete(value) => {
            plan.push(Step::MetaStore { meta: index, value }, start);
            plan.metas.push(meta);
            Ok(value.end() + CRLF.len())
        }
        Block::Unterminated(next) => {
            plan.keys.pop();
            plan.push(Step::Reply(Reply::BadChunk), start);
            Ok(next)
        }
        Block::Incomplete if next - start + value_len as usize + CRLF.len() <= READ_BUFFER_BYTES => {
            Err(Tail::Hungry(start))
        }
        Block::Incomplete => Err(Tail::Value(Storing::Meta(Box::new(meta)), next)),
    }
}

/// Where the line behind an unwanted data block begins, if the whole block is there.
fn block_end(input: &[u8], from: usize, value_len: u32) -> Option<usize> {
    let end = from + value_len as usize + CRLF.len();
    (end <= input.len()).then_some(end)
}

/// The tail for a data block that begins at `from`, is not wanted, and is not all there: skip it as it comes, then answer.
fn swallow(from: usize, value_len: u32, reply: Option<Reply>) -> Tail {
    Tail::Enter(State::Swallow { left: u64::from(value_len) + CRLF.len() as u64, reply }, from)
}

impl Receiving {
    /// How much of the value is still to come.
    fn left(&self) -> usize {
        self.command.value_len() as usize - self.filled
    }

    /// Sees to it that there is memory for the next bytes, unless the value is complete. False if there is none.
    fn make_room(&mut self, handle: &mut Handle) -> bool {
        let left = self.left();
        match &mut self.body {
            _ if left == 0 => true,
            // Never so little that a read of it would not pay.
            Body::Large(large) => handle.extend(large, self.filled + left.min(READ_BUFFER_BYTES)).is_ok(),
            Body::Own(bytes) => {
                if bytes.len() == self.filled {
                    bytes.resize(self.filled + left.min(VALUE_GROWTH_BYTES), 0);
                }
                true
            }
        }
    }

    /// The memory that [`make_room`](Self::make_room) has made.
    fn free(&mut self) -> &mut [u8] {
        match &mut self.body {
            Body::Large(large) => &mut large[self.filled..],
            Body::Own(bytes) => &mut bytes[self.filled..],
        }
    }

    /// Copies what belongs to the value from the front of `input`, as far as there is memory; says how much that was.
    fn take(&mut self, input: &[u8]) -> usize {
        let free = self.free();
        let len = free.len().min(input.len());
        free[..len].copy_from_slice(&input[..len]);
        self.filled += len;
        len
    }
}

impl std::fmt::Debug for Receiving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiving").field("command", &self.command).field("filled", &self.filled).finish()
    }
}
