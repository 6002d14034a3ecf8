//! Commands meet the store: a [`Plan`] is run against one [`Batch`], synchronously, and its answers are encoded as they come.
//!
//! All keys of a plan stand in one list, so their look-ups are staged whatever commands they belong to: hash a group of keys,
//! ask for their index lines, then for their records, and only then execute. The cache misses of a pipeline or of a multi-get
//! overlap instead of following one another.

use std::sync::Arc;
use std::time::Instant;

use memkv_engine::store::{ArithOutcome, Batch, Delta, Expiry, Item, Mode, NewValue, Outcome, StoreError};

use crate::admin;
use crate::hotkeys::Sampler;
use crate::latency::{Class, Countdown};
use crate::limits::STAGED_KEYS_MAX;
use crate::meta;
use crate::output::Output;
use crate::protocol::encode::{self, END};
use crate::protocol::meta::{Decoded, Verb as MetaVerb, key_bytes};
use crate::protocol::{Arith, Key, KeyIndex, Keys, Meta, Reply, Request, Retrieve, Span, Store, Verb};
use crate::service::Service;
use crate::stats;
use crate::watch::{Mutation, Observer};

/// One thing to do.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A request that needs nothing but its line.
    Run(Request),
    /// A storage command and its value.
    Store {
        /// The command.
        store: Store,
        /// Where its value lies.
        value: Span,
    },
    /// A storage command that is too large: all it does is what a refused one does to the old item (protocol 6.2).
    Refuse {
        /// Which command.
        mode: Mode,
        /// The key.
        key: KeyIndex,
        /// The answer, unless none is wanted or the data block must be swallowed first.
        reply: Option<Reply>,
    },
    /// A meta command without a value, by its place in [`Plan::metas`].
    Meta(u32),
    /// ms and its value.
    MetaStore {
        /// The place of the command in [`Plan::metas`].
        meta: u32,
        /// Where its value lies.
        value: Span,
    },
    /// More keys of a multi-get whose first ones have been answered.
    MoreKeys {
        /// What to answer for a hit.
        retrieve: Retrieve,
        /// Whether these are the last ones, so that END follows.
        last: bool,
    },
    /// Nothing but an answer.
    Reply(Reply),
}

impl Step {
    /// The class of commands that a step's latency counts for.
    fn class(&self, metas: &[Meta]) -> Class {
        match self {
            Step::Run(Request::Retrieve { retrieve, .. }) | Step::MoreKeys { retrieve, .. } => match retrieve.touch {
                None => Class::Get,
                Some(_) => Class::Touch,
            },
            Step::Run(Request::Touch { .. }) => Class::Touch,
            Step::Run(Request::Delete { .. }) => Class::Delete,
            Step::Run(Request::Arith { .. }) => Class::Arith,
            Step::Store { .. } | Step::MetaStore { .. } | Step::Refuse { .. } => Class::Store,
            Step::Meta(index) => {
                let meta = &metas[*index as usize];
                match meta.verb {
                    MetaVerb::Get if meta.flags.has(b'T') => Class::Touch,
                    MetaVerb::Get => Class::Get,
                    MetaVerb::Delete => Class::Delete,
                    MetaVerb::Arith => Class::Arith,
                    _ => Class::Other,
                }
            }
            Step::Run(_) | Step::Reply(_) => Class::Other,
        }
    }
}

/// What is to be done under one batch. Kept by the worker and used again, so that planning allocates nothing.
#[derive(Debug, Default)]
pub struct Plan {
    /// Each step, with the position in the input at which it began.
    pub steps: Vec<(Step, u32)>,
    /// The keys of all steps, in the order of the steps.
    pub keys: Keys,
    /// The meta commands among the steps: apart, because they are large and the steps are many.
    pub metas: Vec<Meta>,
    /// The bytes of those keys that came in base64.
    pub decoded: Decoded,
    /// Which keys are sampled for `stats hotkeys`.
    pub sampler: Sampler,
    /// Which batches are measured for `stats latency`.
    pub countdown: Countdown,
}

impl Plan {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.steps.clear();
        self.keys.clear();
        self.metas.clear();
        self.decoded.clear();
    }

    /// Adds a step that began at `start`.
    #[inline]
    pub fn push(&mut self, step: Step, start: usize) {
        self.steps.push((step, start as u32));
    }
}

/// How far a plan was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// To its end.
    All,
    /// The output was full before the step that began at this position.
    Before(usize),
    /// The output was full inside a multi-get: the key list goes on at this position.
    Inside(Retrieve, usize),
}

/// What the commands of a batch belong to, beside the store.
#[derive(Clone, Copy)]
pub struct Scene<'s> {
    /// What all connections share.
    pub service: &'s Arc<Service>,
    /// The number of the worker.
    pub worker: usize,
    /// Told of what the commands do, if anybody observes.
    pub observer: Observer<'s>,
}

/// Carries out `plan`, whose spans refer to `input`, until it is done or `output` is full.
pub fn run(plan: &mut Plan, input: &[u8], batch: &mut Batch<'_>, output: &mut Output, scene: Scene<'_>) -> Ran {
    let Plan { steps, keys, metas, decoded, sampler, countdown } = plan;
    let mut staged = Staged { keys, ready: 0, decoded: decoded.as_slice(), sampler, scene };
    let ran = if countdown.is_due() {
        run_measured(steps, metas, &mut staged, input, batch, output)
    } else {
        run_steps(steps, metas, &mut staged, input, batch, output)
    };
    if scene.observer.is_on() {
        scene.observer.batch_done();
    }
    ran
}

/// Steps one by one, with the time that each of them takes.
#[cold]
fn run_measured(
    steps: &[(Step, u32)],
    metas: &[Meta],
    staged: &mut Staged<'_>,
    input: &[u8],
    batch: &mut Batch<'_>,
    output: &mut Output,
) -> Ran {
    let service = staged.scene.service;
    let (latency, epoch) = (&service.insights()[staged.scene.worker].latency, service.latency_epoch());
    let mut before = Instant::now();
    for step in steps.chunks(1) {
        let ran = run_steps(step, metas, staged, input, batch, output);
        let after = Instant::now();
        latency.record(step[0].0.class(metas), after - before, epoch);
        if ran != Ran::All {
            return ran;
        }
        before = after;
    }
    Ran::All
}

#[inline]
fn run_steps(
    steps: &[(Step, u32)],
    metas: &[Meta],
    staged: &mut Staged<'_>,
    input: &[u8],
    batch: &mut Batch<'_>,
    output: &mut Output,
) -> Ran {
    let decoded = staged.decoded;
    let Scene { service, observer, .. } = staged.scene;
    for (step, start) in steps {
        if output.is_full() {
            return Ran::Before(*start as usize);
        }
        match *step {
            Step::Run(Request::Retrieve { retrieve, first, count }) => {
                if let Some(at) = retrieve_keys(retrieve, first, count, staged, input, batch, output) {
                    return Ran::Inside(retrieve, at);
                }
                output.bytes.extend_from_slice(END);
            }
            Step::MoreKeys { retrieve, last } => {
                let count = staged.keys.len() as u32;
                if let Some(at) = retrieve_keys(retrieve, 0, count, staged, input, batch, output) {
                    return Ran::Inside(retrieve, at);
                }
                if last {
                    output.bytes.extend_from_slice(END);
                }
            }
            Step::Store { store, value } => {
                let key = staged.key(store.key, input, batch);
                let value = NewValue::Bytes(value.of(input));
                let reply = self::store(&store, key, input, value, batch, observer);
                answer(reply, store.noreply, output);
            }
            Step::Refuse { mode, key, reply } => {
                let key = staged.key(key, input, batch);
                refuse(mode, key_bytes(key.span, input, decoded), key.hash, batch, observer);
                if let Some(reply) = reply {
                    output.reply(reply);
                }
            }
            Step::Meta(index) => {
                let meta = &metas[index as usize];
                let key = staged.key(meta.key, input, batch);
                meta::run(meta, key_bytes(key.span, input, decoded), key.hash, batch, output, observer);
            }
            Step::MetaStore { meta: index, value } => {
                let meta = &metas[index as usize];
                let key = staged.key(meta.key, input, batch);
                let value = NewValue::Bytes(value.of(input));
                meta::store(meta, key_bytes(key.span, input, decoded), key.hash, value, batch, output, observer);
            }
            Step::Reply(reply) => output.reply(reply),
            Step::Run(request) => run_one(request, staged, input, batch, output, service),
        }
    }
    Ran::All
}

/// Does what a storage command that is too large does to the old item (protocol 6.2).
pub fn refuse(mode: Mode, key: &[u8], hash: u64, batch: &mut Batch<'_>, observer: Observer<'_>) {
    batch.refuse(mode, key, hash, StoreError::TooLarge);
    if observer.is_on() {
        let (command, expiry) = (name(mode), Expiry::Never);
        let mutation = Mutation { key, status: "too_large", command, value_len: 0, expiry, is_classic: true };
        observer.stored(&mutation, hash, batch);
    }
}

/// Stores `value` under a key of `input`, and says what came of it.
pub fn store(
    store: &Store,
    key: Key,
    input: &[u8],
    value: NewValue<'_>,
    batch: &mut Batch<'_>,
    observer: Observer<'_>,
) -> Reply {
    let expiry = Expiry::from_exptime(i64::from(store.exptime), batch.now());
    let (mode, bytes) = (mode(store.verb), key.span.of(input));
    if observer.is_on() {
        observer.fetch(bytes, key.hash, false, batch);
    }
    let stored = batch.store(mode, bytes, key.hash, store.flags, expiry, value);
    if observer.is_on() {
        let (status, command, value_len) = (status(stored), name(mode), store.value_len as usize);
        let mutation = Mutation { key: bytes, status, command, value_len, expiry, is_classic: true };
        observer.stored(&mutation, key.hash, batch);
    }
    match stored {
        Ok(Outcome::Stored) => Reply::Stored,
        Ok(Outcome::NotStored) => Reply::NotStored,
        Ok(Outcome::Exists) => Reply::Exists,
        Ok(Outcome::NotFound) => Reply::NotFound,
        Err(error) => refusal(error),
    }
}

/// The line for a storage command that was refused.
pub fn refusal(error: StoreError) -> Reply {
    match error {
        StoreError::TooLarge => Reply::TooLarge,
        _ => Reply::NoMemoryToStore,
    }
}

/// How a storage command ended, in the words of log lines (protocol 11).
pub fn status(stored: Result<Outcome, StoreError>) -> &'static str {
    match stored {
        Ok(Outcome::Stored) => "stored",
        Ok(Outcome::NotStored) => "not_stored",
        Ok(Outcome::Exists) => "exists",
        Ok(Outcome::NotFound) => "not_found",
        Err(StoreError::TooLarge) => "too_large",
        Err(_) => "no_memory",
    }
}

/// The name of a storage command.
pub fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Set => "set",
        Mode::Add => "add",
        Mode::Replace => "replace",
        Mode::Append => "append",
        Mode::Prepend => "prepend",
        Mode::Cas(_) => "cas",
    }
}

/// The store's word for a verb.
pub fn mode(verb: Verb) -> Mode {
    match verb {
        Verb::Set => Mode::Set,
        Verb::Add => Mode::Add,
        Verb::Replace => Mode::Replace,
        Verb::Append => Mode::Append,
        Verb::Prepend => Mode::Prepend,
        Verb::Cas(unique) => Mode::Cas(unique),
    }
}

/// The keys of a plan, of which those before `ready` are hashed and fetched ahead.
struct Staged<'p> {
    keys: &'p mut Keys,
    ready: usize,
    /// See [`Plan::decoded`].
    decoded: &'p [u8],
    sampler: &'p mut Sampler,
    scene: Scene<'p>,
}

impl Staged<'_> {
    /// The key at `index`, hashed; brings the next group of keys forward when the last one is used up.
    #[inline]
    fn key(&mut self, index: KeyIndex, input: &[u8], batch: &Batch<'_>) -> Key {
        let index = index as usize;
        if index >= self.ready {
            self.bring_forward(index, input, batch);
        }
        self.keys[index]
    }

    fn bring_forward(&mut self, index: usize, input: &[u8], batch: &Batch<'_>) {
        debug_assert!(index == self.ready, "keys are used in order");
        let end = self.keys.len().min(index + STAGED_KEYS_MAX);
        let group = &mut self.keys[index..end];
        self.ready = end;
        if !self.decoded.is_empty() {
            // Some keys of the plan are not where the others are.
            bring_decoded_forward(group, input, self.decoded, batch);
        } else if let [key] = group {
            // Nothing to overlap with.
            key.hash = batch.hash(key.span.of(input));
        } else {
            for key in group.iter_mut() {
                key.hash = batch.hash(key.span.of(input));
                batch.prefetch_bucket(key.hash);
            }
            for key in group.iter() {
                batch.prefetch_record(key.hash);
            }
        }
        if let Some(sampled) = self.sampler.pass(group.len()) {
            let Key { span, hash } = group[sampled];
            self.scene.note_key(key_bytes(span, input, self.decoded), hash);
        }
    }
}

impl Scene<'_> {
    /// Counts a sampled key.
    #[cold]
    pub fn note_key(&self, key: &[u8], hash: u64) {
        self.service.insights()[self.worker].hot_keys.note(key, hash);
    }
}

/// What [`Staged::bring_forward`] does, for keys in the input and in `decoded`.
#[cold]
fn bring_decoded_forward(group: &mut [Key], input: &[u8], decoded: &[u8], batch: &Batch<'_>) {
    for key in group.iter_mut() {
        key.hash = batch.hash(key_bytes(key.span, input, decoded));
        batch.prefetch_bucket(key.hash);
    }
    for key in group.iter() {
        batch.prefetch_record(key.hash);
    }
}

/// Answers `count` keys from `first` on. If the output fills up, says at which position the key list goes on.
#[inline]
fn retrieve_keys(
    retrieve: Retrieve,
    first: KeyIndex,
    count: u32,
    staged: &mut Staged<'_>,
    input: &[u8],
    batch: &mut Batch<'_>,
    output: &mut Output,
) -> Option<usize> {
    let observer = staged.scene.observer;
    for index in first..first + count {
        let key = staged.key(index, input, batch);
        if observer.is_on() {
            observer.fetch(key.span.of(input), key.hash, true, batch);
        }
        match retrieve.touch {
            None => {
                if let Some(item) = batch.get(key.span.of(input), key.hash) {
                    value(&item, retrieve.cas, output);
                }
            }
            Some(exptime) => {
                let expiry = Expiry::from_exptime(i64::from(exptime), batch.now());
                if let Some(item) = batch.get_and_touch(key.span.of(input), key.hash, expiry) {
                    value(&item, retrieve.cas, output);
                }
            }
        }
        if output.is_full() {
            return Some(key.span.end());
        }
    }
    None
}

/// Encodes a hit. A large value is left where it lies.
#[inline]
fn value(item: &Item<'_>, cas: bool, output: &mut Output) {
    let cas = cas.then(|| item.cas());
    match item.large() {
        None => encode::value(&mut output.bytes, item.key(), item.flags(), cas, item.value()),
        Some(large) => {
            encode::value_line(&mut output.bytes, item.key(), item.flags(), cas, large.len(), 0);
            output.large = Some(large);
        }
    }
}

fn answer(reply: Reply, noreply: bool, output: &mut Output) {
    if !noreply {
        output.reply(reply);
    }
}

/// The requests that are not worth a place in the loop of [`run`].
fn run_one(
    request: Request,
    staged: &mut Staged<'_>,
    input: &[u8],
    batch: &mut Batch<'_>,
    output: &mut Output,
    service: &Arc<Service>,
) {
    let observer = staged.scene.observer;
    match request {
        Request::Delete { key, noreply } => {
            let key = staged.key(key, input, batch);
            let bytes = key.span.of(input);
            let mut old_len = 0;
            if observer.is_on() {
                observer.fetch(bytes, key.hash, false, batch);
                old_len = observer.before_delete(bytes, key.hash, true, batch);
            }
            let deleted = batch.delete(bytes, key.hash);
            if observer.is_on() && deleted {
                observer.deleted(bytes, "delete", old_len);
            }
            answer(if deleted { Reply::Deleted } else { Reply::NotFound }, noreply, output);
        }
        Request::Arith { key, delta, noreply } => {
            let key = staged.key(key, input, batch);
            if observer.is_on() {
                observer.fetch(key.span.of(input), key.hash, false, batch);
            }
            let delta = match delta {
                Arith::Incr(by) => Delta::Incr(by),
                Arith::Decr(by) => Delta::Decr(by),
            };
            match batch.arith(key.span.of(input), key.hash, delta) {
                Ok(ArithOutcome::Value(_)) if noreply => {}
                Ok(ArithOutcome::Value(value)) => encode::number_line(&mut output.bytes, value),
                Ok(ArithOutcome::NotFound) => answer(Reply::NotFound, noreply, output),
                Ok(ArithOutcome::NonNumeric) => answer(Reply::NonNumeric, noreply, output),
                Err(_) => answer(Reply::NoMemory, noreply, output),
            }
        }
        Request::Touch { key, exptime, noreply } => {
            let key = staged.key(key, input, batch);
            if observer.is_on() {
                observer.fetch(key.span.of(input), key.hash, false, batch);
            }
            let expiry = Expiry::from_exptime(i64::from(exptime), batch.now());
            let reply = match batch.touch(key.span.of(input), key.hash, expiry) {
                Ok(true) => Reply::Touched,
                Ok(false) => Reply::NotFound,
                Err(_) => Reply::NoMemory,
            };
            answer(reply, noreply, output);
        }
        Request::FlushAll { exptime, noreply } => answer(flush_all(exptime, batch, service), noreply, output),
        Request::Verbosity { level, noreply } => {
            service.set_verbosity(level);
            answer(Reply::Ok, noreply, output);
        }
        Request::Version => {
            output.bytes.extend_from_slice(b"VERSION ");
            output.bytes.extend_from_slice(crate::PROTOCOL_VERSION.as_bytes());
            output.bytes.extend_from_slice(encode::CRLF);
        }
        Request::Stats(topic) => stats::answer(topic, service, batch, &mut output.bytes),
        Request::Admin { admin, noreply } => answer(admin::run(admin, service), noreply, output),
        Request::Retrieve { .. } | Request::Store(_) => unreachable!("these are steps of their own"),
        Request::Quit | Request::Walk(_) | Request::Watch(_) | Request::Shutdown { .. } | Request::DebugTime(_) => {
            unreachable!("these end a plan")
        }
    }
}

fn flush_all(exptime: i32, batch: &mut Batch<'_>, service: &Service) -> Reply {
    if !service.config.flush_allowed {
        service.count_refused_flush();
        return Reply::FlushForbidden;
    }
    let at = match exptime {
        1.. => Expiry::from_exptime(i64::from(exptime), batch.now()),
        _ => Expiry::Never,
    };
    batch.flush_all(at);
    Reply::Ok
}
