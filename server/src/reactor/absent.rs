//! In the place of `uring` where there is no io_uring.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::time::Duration;

use super::{Notifier, Source, Sources};

/// A ring: there is none.
pub(super) enum Uring {}

/// What a ring has of a source: nothing.
#[derive(Default)]
pub(super) struct Flow;

impl Flow {
    pub(super) fn has_arrived(&self) -> bool {
        false
    }

    pub(super) fn is_receiving(&self) -> bool {
        false
    }

    pub(super) fn has_returned(&self) -> bool {
        false
    }

    pub(super) fn take_returned(&self) -> Vec<u8> {
        Vec::new()
    }

    pub(super) fn expect_much(&self, _much: bool) {}
}

impl Uring {
    pub(super) fn new(_workers: usize) -> io::Result<Uring> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn notifier(&self) -> Notifier {
        match *self {}
    }

    pub(super) fn aside_bytes(&self) -> usize {
        match *self {}
    }

    pub(super) fn take_events(&self) -> usize {
        match *self {}
    }

    pub(super) fn press(&self, _pressed: bool, _sources: &Sources) {
        match *self {}
    }

    pub(super) fn end_receive(&self, _key: usize, _flow: &Flow) {
        match *self {}
    }

    pub(super) fn await_input(&self, _key: usize, _flow: &Flow) {
        match *self {}
    }

    pub(super) fn await_room(&self, _key: usize, _flow: &Flow) {
        match *self {}
    }

    pub(super) fn receive(&self, _source: &Source, _buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn send(&self, _source: &Source, _buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn post(&self, _source: &Source, _answer: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn flush(&self, _source: &Source) -> io::Result<bool> {
        match *self {}
    }

    pub(super) fn wait(&self, _timeout: Option<Duration>, _sources: &Sources) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn arrivals(&self) -> usize {
        match *self {}
    }

    pub(super) fn each_arrival(&self, _sources: &Sources, _each: impl FnMut(&[u8])) {
        match *self {}
    }

    pub(super) fn turn(&self, _timeout: Option<Duration>, _sources: &Sources) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn let_go(&self, _key: usize, _flow: &Flow) -> bool {
        match *self {}
    }

    pub(super) fn forget(&self, _sources: &RefCell<Sources>) {
        match *self {}
    }
}
