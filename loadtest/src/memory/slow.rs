//! Many clients that ask for much and read slowly.
//!
//! Each asks once for more than it will ever read and then takes a few bytes a second. What the server makes ready for them
//! lies in its own memory or in the system's socket buffers; only the former counts as resident. The clients' receive
//! buffers are made as small as the system allows.

use super::bench::{Bench, Lab, items};
use super::{Lengths, ServerMemory, Slowed};
use crate::client::LINE_END;
use crate::error::Error;
use crate::record::Class;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// The items that are asked for.
const ASKED: Lengths = Lengths { key_bytes: 30, value_bytes: 10_000 };
/// How many there are.
const ITEMS: usize = 2000;
/// Keys of one get.
const KEYS: usize = 100;
/// Gets that each client sends at once.
const GETS: usize = 10;
/// Bytes that each client takes in a second.
const BYTES_PER_SECOND: usize = 1000;
/// Time between two looks at the server's memory.
const TICK: Duration = Duration::from_millis(100);

pub(super) fn slow(
    lab: &Lab<'_>,
    limit_mib: u64,
    clients: usize,
    duration: Duration,
    report: &mut ServerMemory,
) -> Result<(), Error> {
    let mut bench = lab.start(limit_mib)?;
    let mut hand = bench.hand(ASKED, 0.0)?;
    bench.drive(&mut hand, Class::Set, (0..ITEMS).map(|key| key as u64), "slow")?;
    // Its place among the server's connections is a client's.
    drop(hand);
    let resident_bytes_before = bench.resident_bytes()?;
    let mut resident_bytes_max = resident_bytes_before;
    let mut sockets = ask(&mut bench, clients, &mut resident_bytes_max)?;
    let connected = sockets.len();
    let start = Instant::now();
    let mut read_bytes = 0;
    let mut buffer = [0; BYTES_PER_SECOND];
    let ticks = (Duration::from_secs(1).as_millis() / TICK.as_millis()) as usize;
    let mut tick = 0;
    // Relaxed: a wish to end; no memory is read on the strength of it.
    while start.elapsed() < duration && !lab.stop.load(Ordering::Relaxed) {
        thread::sleep((start + TICK * tick as u32).saturating_duration_since(Instant::now()));
        // Every client is served once in a second, a part of them at each tick.
        for socket in sockets.iter_mut().skip(tick % ticks).step_by(ticks) {
            let Some(open) = socket else { continue };
            match recv(&*open, &mut buffer, RecvFlags::empty()).map(|(bytes, _)| bytes) {
                Ok(0) => *socket = None,
                Ok(bytes) => read_bytes += bytes as u64,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => *socket = None,
            }
        }
        resident_bytes_max = bench.resident_bytes()?.max(resident_bytes_max);
        tick += 1;
    }
    if lab.stop.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    report.slow = Some(Slowed {
        limit_mib,
        clients: connected,
        asked_bytes: (GETS * KEYS) as u64 * ASKED.sum(),
        closed: sockets.iter().filter(|socket| socket.is_none()).count(),
        read_bytes,
        seconds: start.elapsed().as_secs_f64(),
        resident_bytes_before,
        resident_bytes_max,
    });
    Ok(())
}

/// Connects the clients and sends their requests.
fn ask(bench: &mut Bench<'_>, clients: usize, resident_bytes_max: &mut u64) -> Result<Vec<Option<OwnedFd>>, Error> {
    let mut sockets = Vec::with_capacity(clients);
    let names = items(ASKED, 0.0);
    let mut request = Vec::new();
    for client in 0..clients {
        let socket = bench.server.target().connect()?;
        // The least that the system has; where it refuses, more lies in its buffers and less in the server.
        let _ = set_socket_recv_buffer_size(&socket, 1);
        request.clear();
        for get in 0..GETS {
            request.extend_from_slice(b"get");
            for key in 0..KEYS {
                request.push(b' ');
                names.write_name(((client + get) * KEYS + key) as u64 % ITEMS as u64, &mut request);
            }
            request.extend_from_slice(LINE_END);
        }
        // The requests fit into an empty socket buffer; a server that has closed the connection is told by reading.
        let sent = send(&socket, &request, SendFlags::NOSIGNAL);
        sockets.push(sent.is_ok().then_some(socket));
        *resident_bytes_max = bench.resident_bytes()?.max(*resident_bytes_max);
    }
    Ok(sockets)
}
