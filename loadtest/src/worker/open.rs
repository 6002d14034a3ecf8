//! Open loop: requests are sent when they are due, and their latency counts from then, whether or not they could be sent.
//!
//! A server that pauses is asked no less for it: requests pile up and each of them is late. In a closed loop they would
//! never have been made, and the pause would count as one slow request (coordinated omission).

use super::{Drive, Ended, Renewal, WAIT_MAX, give_up, lose, stopped};
use crate::connection::{Connection, Desk};
use crate::driver::Driver;
use crate::error::Error;
use crate::schedule::Schedule;
use crate::workload::{Draft, Source};
use rustix::thread::set_current_timer_slack;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Instant;

/// How late the kernel may wake us for a due request; its default of 50 us would show in every latency.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::MIN;

/// Connections that can take a request, longest unused first. Each is listed at most once.
struct Room {
    tokens: VecDeque<usize>,
    listed: Vec<bool>,
    depth: usize,
}

impl Room {
    fn new(connections: &[Option<Connection>], depth: usize) -> Self {
        let mut room = Self { tokens: VecDeque::new(), listed: vec![false; connections.len()], depth };
        for (token, slot) in connections.iter().enumerate() {
            room.offer(token, slot.as_ref());
        }
        room
    }

    fn offer(&mut self, token: usize, connection: Option<&Connection>) {
        if !self.listed[token] && connection.is_some_and(|connection| connection.has_room(self.depth)) {
            self.listed[token] = true;
            self.tokens.push_back(token);
        }
    }

    fn take(&mut self) -> Option<usize> {
        let token = self.tokens.pop_front()?;
        self.listed[token] = false;
        Some(token)
    }
}

pub(super) fn drive<S: Source, D: Driver>(
    driver: &mut D,
    connections: &mut [Option<Connection>],
    renewal: &Renewal,
    desk: &mut Desk<'_, S>,
    mut schedule: Schedule,
    drive: Drive<'_>,
) -> Result<Ended, Error> {
    // Without it latencies are some tens of microseconds too long, as the client's own lateness will show.
    let _ = set_current_timer_slack(Some(TIMER_SLACK_NS));
    let mut draft = Draft::default();
    let mut room = Room::new(connections, drive.depth);
    let mut in_flight = 0_usize;
    let mut last_event = Instant::now();
    // Whether a request that is due now had a connection to go to all the time.
    let mut had_room = true;
    let mut dry = false;
    loop {
        let now = Instant::now();
        let over = dry || stopped(drive) || drive.deadline.is_some_and(|deadline| now >= deadline);
        while !over && schedule.next() <= now {
            let Some(token) = room.take() else { break };
            let slot = &mut connections[token];
            let Some(connection) = slot else { continue };
            draft.keys.clear();
            desk.source.begin_batch();
            if !desk.source.next(&mut draft) {
                dry = true;
                break;
            }
            let due = schedule.next();
            schedule.advance();
            if had_room {
                desk.record.sent_late(now.saturating_duration_since(due));
            }
            connection.push(&draft, due, Instant::now(), desk);
            match driver.send(token, connection, desk.record) {
                Ok(()) => in_flight += 1,
                Err(fault) => {
                    in_flight -= connection.in_flight() - 1;
                    lose(slot, token, fault, driver, desk.record);
                }
            }
            room.offer(token, slot.as_ref());
        }
        if (over || dry || connections.iter().all(Option::is_none)) && in_flight == 0 {
            break;
        }
        had_room = !room.tokens.is_empty();
        let timeout = if over || !had_room {
            WAIT_MAX
        } else {
            schedule.next().saturating_duration_since(Instant::now()).min(WAIT_MAX)
        };
        let happened = driver.wait(connections, timeout, desk.record)?;
        let now = Instant::now();
        if happened || in_flight == 0 {
            last_event = now;
        } else if now.duration_since(last_event) > drive.patience {
            give_up(connections, driver, desk.record);
            return Ok(Ended::Stalled);
        }
        while let Some((token, event)) = driver.next_event() {
            let slot = &mut connections[token];
            let Some(connection) = slot else { continue };
            let before = connection.in_flight();
            match driver.take(event, token, connection, desk) {
                Ok(()) => in_flight -= before - connection.in_flight(),
                Err(fault) => {
                    in_flight -= before;
                    lose(slot, token, fault, driver, desk.record);
                }
            }
            renewal.renew(slot, token, driver, desk.record)?;
            room.offer(token, slot.as_ref());
        }
        drive.live.publish(desk.record);
    }
    if let Some(deadline) = drive.deadline {
        desk.record.unsent += schedule.count_until(deadline.min(Instant::now()));
    }
    Ok(if stopped(drive) {
        Ended::Stopped
    } else if connections.iter().all(Option::is_none) {
        Ended::AllConnectionsLost
    } else {
        Ended::Done
    })
}
