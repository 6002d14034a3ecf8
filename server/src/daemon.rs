//! Running in the background, and the files that tell others where (protocol 18, 19).
//!
//! `memkv -d` returns when the server in the background is ready, or with its exit status if it does not get there: a script that
//! starts it can go on at once, and sees what went wrong.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::process::EXIT_SYSTEM;

/// The two processes after [`split`].
#[derive(Debug)]
pub enum Side {
    /// The one that was started: it ends with this status, which the other one has decided.
    Foreground(ExitCode),
    /// The one that goes on.
    Background(Ready),
}

/// The word that the process in the background owes to the one that started it.
#[derive(Debug)]
pub struct Ready(File);

/// Makes a process in the background, in a session of its own. To be called before there is any thread.
///
/// # Errors
/// If the system refuses a pipe or a process.
pub fn split() -> io::Result<Side> {
    let (reader, writer) = io::pipe()?;
    #[expect(unsafe_code, reason = "fork is unsafe for what threads may hold; there are none")]
    // SAFETY: this process has one thread, so nothing is in an unknown state after fork: no lock is held by somebody who is gone.
    let forked = unsafe { fork() };
    match forked? {
        ForkResult::Parent { child } => {
            drop(writer);
            Ok(Side::Foreground(wait_for(child, File::from(OwnedFd::from(reader)))))
        }
        ForkResult::Child => {
            drop(reader);
            rustix::process::setsid()?;
            Ok(Side::Background(Ready(File::from(OwnedFd::from(writer)))))
        }
    }
}

/// Waits for the word of the child, or for its end.
fn wait_for(child: Pid, mut word: File) -> ExitCode {
    if word.read_exact(&mut [0]).is_ok() {
        return ExitCode::SUCCESS;
    }
    loop {
        match waitpid(child, None) {
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::Exited(_, code)) => return ExitCode::from(code as u8),
            _ => return ExitCode::from(EXIT_SYSTEM),
        }
    }
}

impl Ready {
    /// Lets the process in the foreground end with status 0, after leaving its directory and, unless `keep_stdio`, its
    /// terminal.
    ///
    /// # Errors
    /// If the system refuses `/` or `/dev/null`.
    pub fn detach(mut self, keep_stdio: bool) -> io::Result<()> {
        rustix::process::chdir("/")?;
        if !keep_stdio {
            let null = File::options().read(true).write(true).open("/dev/null")?;
            dup2_stdin(&null)?;
            dup2_stdout(&null)?;
            dup2_stderr(&null)?;
        }
        // If nobody waits any more, nobody needs the word.
        let _ = self.0.write_all(&[1]);
        Ok(())
    }
}

/// Writes a file that is never seen half written: under another name first, then renamed.
fn write_whole(path: &Path, suffix: &str, text: &str) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(suffix);
    let partial = PathBuf::from(partial);
    fs::write(&partial, text)?;
    fs::rename(&partial, path)
}

/// The process id in a file (`-P`).
///
/// # Errors
/// If the file cannot be written.
pub fn write_pid(path: &Path) -> io::Result<()> {
    write_whole(path, ".tmp", &format!("{}\n", std::process::id()))
}

/// The TCP ports in a file, as `MEMCACHED_PORT_FILENAME` asks for: a line `TCP INET: <port>` or `TCP INET6: <port>` each.
///
/// # Errors
/// If the file cannot be written.
pub fn write_ports(path: &Path, addrs: &[SocketAddr]) -> io::Result<()> {
    let line = |addr: &SocketAddr| {
        let family = if addr.is_ipv4() { "INET" } else { "INET6" };
        format!("TCP {family}: {}\n", addr.port())
    };
    write_whole(path, ".lck", &addrs.iter().map(line).collect::<String>())
}
