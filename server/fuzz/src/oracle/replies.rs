//! The server's answers, read from front to back.

use crate::conversation::Outcome;

pub(super) struct Replies<'o> {
    sent: &'o [u8],
    bytes: &'o [u8],
    at: usize,
    closed: bool,
    pub(super) whole: bool,
    /// Where in the input the command stands that is being answered.
    pub(super) command_at: usize,
}

impl<'o> Replies<'o> {
    pub(super) fn new(outcome: &'o Outcome) -> Replies<'o> {
        let Outcome { sent, reply, closed, whole } = outcome;
        Replies { sent, bytes: reply, at: 0, closed: *closed, whole: *whole, command_at: 0 }
    }

    fn rest(&self) -> &'o [u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Whether the server said nothing more and closed.
    pub(super) fn is_closed_here(&self) -> bool {
        self.is_at_end() && self.closed
    }

    /// Nothing more is answered.
    pub(super) fn end(&self, closed: bool) {
        if !self.is_at_end() {
            self.fail("the end of the answers");
        }
        if self.closed != closed {
            self.fail(if closed { "that the server closes" } else { "that the server goes on" });
        }
    }

    #[track_caller]
    pub(super) fn fail(&self, wanted: &str) -> ! {
        let show = |bytes: &[u8]| bytes[..bytes.len().min(300)].escape_ascii().to_string();
        panic!(
            "expected {wanted}\n answers go on: \"{}\"\n after:         \"{}\"\n command:       \"{}\" (at byte {})\n closed: {}, after {} bytes in all",
            show(self.rest()),
            self.bytes[self.at.saturating_sub(100)..self.at].escape_ascii(),
            show(&self.sent[self.command_at..]),
            self.command_at,
            self.closed,
            self.sent.len(),
        );
    }

    #[track_caller]
    pub(super) fn require(&self, is_so: bool, what: &str) {
        if !is_so {
            self.fail(what);
        }
    }

    /// These bytes come next.
    #[track_caller]
    pub(super) fn expect(&mut self, wanted: &[u8]) {
        if !self.skip(wanted) {
            self.fail(&format!("\"{}\"", wanted[..wanted.len().min(300)].escape_ascii()));
        }
    }

    /// Goes past these bytes if they come next.
    pub(super) fn skip(&mut self, wanted: &[u8]) -> bool {
        let is_next = self.rest().starts_with(wanted);
        if is_next {
            self.at += wanted.len();
        }
        is_next
    }

    /// One of these lines comes next.
    #[track_caller]
    pub(super) fn expect_one_of(&mut self, wanted: &[&str]) {
        let line = self.line();
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        if !wanted.iter().any(|wanted| wanted.as_bytes() == text) {
            self.at -= line.len();
            self.fail(&format!("one of {wanted:?}"));
        }
    }

    /// A number in decimal digits comes next.
    #[track_caller]
    pub(super) fn number(&mut self) -> u64 {
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = std::str::from_utf8(&self.rest()[..digits]).ok().and_then(|digits| digits.parse().ok());
        let Some(number) = number else { self.fail("a number") };
        self.at += digits;
        number
    }

    /// The next line, its end included.
    #[track_caller]
    pub(super) fn line(&mut self) -> &'o [u8] {
        let rest = self.rest();
        let Some(len) = rest.iter().position(|byte| *byte == b'\n') else { self.fail("a line") };
        self.at += len + 1;
        &rest[..len + 1]
    }
}
