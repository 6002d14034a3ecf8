//! One client's pipeline does not keep the others waiting (`-R`).

use memkv_server::Config;

use crate::support::{Tcp, config, start, stat};

#[test]
fn a_long_pipeline_yields() {
    let server = start(Config { commands_per_turn: 10, ..config() });
    let addr = server.addr();
    let answer = Tcp::connect(addr).finish(&b"get a\r\n".repeat(1_000));
    assert_eq!(answer, b"END\r\n".repeat(1_000));
    // It arrives in a few reads, each of them good for many turns.
    assert!(stat(addr, "conn_yields") >= 50, "{}", stat(addr, "conn_yields"));
    server.shutdown();
}

#[test]
fn a_short_pipeline_does_not() {
    let server = start(config());
    let mut client = Tcp::connect(server.addr());
    client.send(&b"get a\r\n".repeat(16));
    assert_eq!(client.read(16 * 5), b"END\r\n".repeat(16));
    assert_eq!(stat(server.addr(), "conn_yields"), 0);
    server.shutdown();
}
