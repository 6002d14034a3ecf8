//! A client that somebody else wrote: the `memcache` crate, in its text mode.

use std::collections::HashMap;

use memcache::Client;

use crate::support::{config, start};

#[test]
fn the_memcache_crate_is_content() {
    let server = start(config());
    let client = Client::connect(format!("memcache://{}?protocol=ascii&timeout=30", server.addr())).unwrap();

    let versions = client.version().unwrap();
    assert!(versions[0].1.starts_with("1.6.45"), "{versions:?}");

    client.set("text", "hello", 0).unwrap();
    client.set("number", 41u64, 100).unwrap();
    assert_eq!(client.get::<String>("text").unwrap().as_deref(), Some("hello"));
    assert_eq!(client.get::<String>("missing").unwrap(), None);
    assert_eq!(client.increment("number", 1).unwrap(), 42);
    assert_eq!(client.decrement("number", 2).unwrap(), 40);

    let found: HashMap<String, String> = client.gets(&["text", "missing", "number"]).unwrap();
    assert_eq!(found.len(), 2);

    client.add("added", "1", 0).unwrap();
    // This client does not tell NOT_STORED from STORED, so the value must say it.
    client.add("added", "2", 0).unwrap();
    assert_eq!(client.get::<String>("added").unwrap().as_deref(), Some("1"));
    client.replace("added", "3", 0).unwrap();
    client.append("added", "4").unwrap();
    client.prepend("added", "2").unwrap();
    assert_eq!(client.get::<String>("added").unwrap().as_deref(), Some("234"));

    let (_, _, cas): (Vec<u8>, u32, Option<u64>) = client.gets(&["text"]).unwrap().remove("text").unwrap();
    let cas = cas.expect("gets shows a CAS id");
    assert!(client.cas("text", "changed", 0, cas).unwrap());
    assert!(!client.cas("text", "again", 0, cas).unwrap());

    assert!(client.touch("text", 100).unwrap());
    assert!(!client.touch("missing", 100).unwrap());
    assert!(client.delete("text").unwrap());
    assert!(!client.delete("text").unwrap());

    let large = vec![b'x'; 900_000];
    client.set("large", &large[..], 0).unwrap();
    assert!(client.get::<Vec<u8>>("large").unwrap().unwrap() == large);

    client.flush().unwrap();
    assert_eq!(client.get::<String>("added").unwrap(), None);
    server.shutdown();
}
