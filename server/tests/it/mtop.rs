//! A client that somebody else wrote: mtop-client, the library of `mtop`, which reads every statistic into a number and is strict about it.
//!
//! Its `metas` is left out: it takes no `OK` before the lines of a metadump, which memcached 1.6.45 sends (protocol 10).

use mtop_client::{
    Key, Memcached, MemcachedClient, MemcachedClientConfig, RendezvousSelector, Server, ServerID, TcpClientFactory,
};

use crate::support::{config, start};

fn key(name: &str) -> Key {
    Key::parse_all([name]).expect("a key").remove(0)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn one_connection_can_do_everything() {
    let server = start(config());
    runtime().block_on(async {
        let socket = tokio::net::TcpStream::connect(server.addr()).await.unwrap();
        let (read, write) = socket.into_split();
        let mut client = Memcached::new(read, write);
        client.ping().await.unwrap();
        client.set(&key("number"), 5, 100, "41").await.unwrap();
        assert_eq!(client.incr(&key("number"), 2).await.unwrap(), 43);
        assert_eq!(client.decr(&key("number"), 1).await.unwrap(), 42);
        client.add(&key("added"), 0, 0, "1").await.unwrap();
        assert!(client.add(&key("added"), 0, 0, "2").await.is_err());
        client.replace(&key("added"), 0, 0, "3").await.unwrap();
        assert!(client.replace(&key("missing"), 0, 0, "3").await.is_err());
        client.touch(&key("added"), 1000).await.unwrap();
        assert!(client.touch(&key("missing"), 1000).await.is_err());
        let values = client.get(&[key("number"), key("missing"), key("added")]).await.unwrap();
        assert_eq!((values["number"].data.as_slice(), values["number"].flags, values.len()), (&b"42"[..], 5, 2));
        assert!(values["number"].cas != values["added"].cas);

        let stats = client.stats().await.unwrap();
        assert_eq!((stats.curr_items, stats.get_hits, stats.incr_hits), (2, 2, 1));
        assert!(stats.version.starts_with("1.6.45") && stats.max_bytes == 16 << 20, "{stats:?}");
        let items = client.items().await.unwrap();
        let item = items.iter().next().expect("the one class");
        assert_eq!((items.len(), item.id, item.number, item.mem_requested), (1, 1, 2, stats.bytes));
        let slabs = client.slabs().await.unwrap();
        let slab = slabs.iter().next().expect("the one class");
        assert_eq!((slabs.len(), slab.id, slab.chunk_size), (1, 1, 8));
        assert!(slab.used_chunks > 0 && slab.used_chunks + slab.free_chunks == slab.total_chunks, "{slab:?}");

        client.delete(&key("added")).await.unwrap();
        assert!(client.delete(&key("added")).await.is_err());
        client.flush_all(std::time::Duration::ZERO).await.unwrap();
        assert!(client.get(&[key("number")]).await.unwrap().is_empty());
    });
    server.shutdown();
}

#[test]
fn many_servers_are_asked_at_once() {
    let servers = [start(config()), start(config()), start(config())];
    let runtime = runtime();
    runtime.block_on(async {
        let known = servers.iter().map(|server| Server::without_name(ServerID::from(server.addr()))).collect();
        let client = MemcachedClient::new(
            MemcachedClientConfig::default(),
            tokio::runtime::Handle::current(),
            RendezvousSelector::new(known),
            TcpClientFactory,
        );
        for i in 0..90 {
            client.set(format!("key{i}"), 0, 0, format!("value{i}")).await.unwrap();
        }
        let found = client.get((0..91).map(|i| format!("key{i}"))).await.unwrap();
        assert!(found.errors.is_empty() && found.values.len() == 90);
        let stats = client.stats().await.unwrap();
        assert!(stats.errors.is_empty() && stats.values.len() == 3);
        assert_eq!(stats.values.values().map(|stats| stats.curr_items).sum::<u64>(), 90);
        assert!(stats.values.values().all(|stats| stats.curr_items > 10));
        assert!(client.items().await.unwrap().errors.is_empty());
        assert!(client.slabs().await.unwrap().errors.is_empty());
        assert!(client.ping().await.unwrap().errors.is_empty());
    });
    servers.into_iter().for_each(memkv_server::Running::shutdown);
}
