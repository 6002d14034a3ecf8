<?php
// php-memcached (libmemcached) against running servers: php php_memcached.check.php PORT PORT PORT.

$ports = array_map('intval', array_slice($argv, 1, 3));
$failed = 0;

function client(array $ports, array $options = []): Memcached {
    $client = new Memcached();
    $client->setOptions([Memcached::OPT_BINARY_PROTOCOL => false, Memcached::OPT_TCP_NODELAY => true] + $options);
    $client->addServers(array_map(fn ($port) => ['127.0.0.1', $port], $ports));
    return $client;
}

function same($expected, $got): void {
    if ($expected !== $got) {
        throw new Exception('expected ' . var_export($expected, true) . ', got ' . var_export($got, true));
    }
}

$checks = [
    'set and get' => function () use ($ports) {
        $c = client([$ports[0]]);
        foreach (['text', 5, 2.5, true, null, [1, 'two' => 3], str_repeat('x', 500000)] as $value) {
            same(true, $c->set('k', $value, 100));
            same($value, $c->get('k'));
        }
        same(false, $c->get('missing'));
        same(Memcached::RES_NOTFOUND, $c->getResultCode());
    },
    'compressed and uncompressed values' => function () use ($ports) {
        foreach ([true, false] as $on) {
            $c = client([$ports[0]], [Memcached::OPT_COMPRESSION => $on]);
            $value = str_repeat('compress me ', 20000);
            same(true, $c->set('k', $value));
            same($value, $c->get('k'));
        }
    },
    'add replace append prepend' => function () use ($ports) {
        $c = client([$ports[0]], [Memcached::OPT_COMPRESSION => false]);
        same(false, $c->replace('k', '0'));
        same(true, $c->add('k', 'b'));
        same(false, $c->add('k', 'c'));
        same(Memcached::RES_NOTSTORED, $c->getResultCode());
        same(true, $c->append('k', 'c'));
        same(true, $c->prepend('k', 'a'));
        same('abc', $c->get('k'));
        same(true, $c->replace('k', 'd'));
        same('d', $c->get('k'));
    },
    'cas' => function () use ($ports) {
        $c = client([$ports[0]]);
        $c->set('k', 'old');
        $found = $c->get('k', null, Memcached::GET_EXTENDED);
        same(true, $c->cas($found['cas'], 'k', 'new'));
        same(false, $c->cas($found['cas'], 'k', 'newer'));
        same(Memcached::RES_DATA_EXISTS, $c->getResultCode());
        same('new', $c->get('k'));
    },
    'increment and decrement' => function () use ($ports) {
        $c = client([$ports[0]]);
        same(false, $c->increment('k'));
        $c->set('k', 10);
        same(15, $c->increment('k', 5));
        same(0, $c->decrement('k', 20));
        same(true, $c->set('text', 'x') && $c->increment('text') === false);
    },
    'multi' => function () use ($ports) {
        $c = client([$ports[0]]);
        $values = [];
        for ($i = 0; $i < 500; $i++) {
            $values["key$i"] = $i;
        }
        same(true, $c->setMulti($values, 100));
        same(500, count($c->getMulti(array_keys($values))));
        same(true, $c->getDelayed(['key1', 'key2'], true));
        same(2, count($c->fetchAll()));
        same([true], array_values(array_unique($c->deleteMulti(array_keys($values)))));
        same([], $c->getMulti(array_keys($values)));
    },
    'touch and expiry' => function () use ($ports) {
        $c = client([$ports[0]]);
        same(false, $c->touch('k', 10));
        $c->set('k', 'v', 100);
        same(true, $c->touch('k', 1000));
        same(true, $c->set('past', 'v', time() - 10));
        same(false, $c->get('past'));
    },
    'delete' => function () use ($ports) {
        $c = client([$ports[0]]);
        same(false, $c->delete('k'));
        $c->set('k', 'v');
        same(true, $c->delete('k'));
        same(false, $c->get('k'));
    },
    'buffered writes' => function () use ($ports) {
        $c = client([$ports[0]], [Memcached::OPT_BUFFER_WRITES => true, Memcached::OPT_NO_BLOCK => true]);
        for ($i = 0; $i < 1000; $i++) {
            $c->set("b$i", $i);
        }
        same(true, $c->flushBuffers());
        same(999, $c->get('b999'));
    },
    'stats and version' => function () use ($ports) {
        $c = client($ports);
        $versions = array_values($c->getVersion());
        same(3, count($versions));
        same('1.6.45', explode(' ', $versions[0])[0]);
        $c->set('k', 'v');
        $stats = $c->getStats();
        same(3, count($stats));
        foreach ($stats as $server) {
            same(true, $server['pid'] > 0 && $server['limit_maxbytes'] == 64 << 20 && $server['version'] !== '');
        }
        same(true, count($c->getStats('items')) > 0);
        same(true, count($c->getStats('settings')) > 0);
    },
    'all keys through cachedump' => function () use ($ports) {
        $c = client([$ports[0]]);
        $c->setMulti(['x' => 1, 'y' => 2, 'z' => 3]);
        $keys = $c->getAllKeys();
        same(true, is_array($keys));
        sort($keys);
        same(['x', 'y', 'z'], $keys);
    },
    'ketama over three servers' => function () use ($ports) {
        foreach ([[Memcached::OPT_LIBKETAMA_COMPATIBLE => true],
                  [Memcached::OPT_DISTRIBUTION => Memcached::DISTRIBUTION_CONSISTENT]] as $options) {
            $c = client($ports, $options);
            $values = [];
            for ($i = 0; $i < 300; $i++) {
                $values["ketama$i"] = "value$i";
            }
            same(true, $c->setMulti($values));
            same(300, count($c->getMulti(array_keys($values))));
            $shares = array_map(fn ($port) => count(client([$port])->getMulti(array_keys($values))), $ports);
            same(true, min($shares) > 30);
            same(true, $c->flush());
        }
    },
    'keys by server key' => function () use ($ports) {
        $c = client($ports, [Memcached::OPT_LIBKETAMA_COMPATIBLE => true]);
        same(true, $c->setByKey('group', 'k', 'v'));
        same('v', $c->getByKey('group', 'k'));
        same(true, $c->deleteByKey('group', 'k'));
    },
    'prefix' => function () use ($ports) {
        $c = client([$ports[0]], [Memcached::OPT_PREFIX_KEY => 'app:']);
        $c->set('k', 'v');
        same('v', client([$ports[0]])->get('app:k'));
    },
];

foreach ($checks as $name => $check) {
    foreach ($ports as $port) {
        client([$port])->flush();
    }
    try {
        $check();
        echo "ok $name\n";
    } catch (Throwable $error) {
        $failed++;
        echo "FAILED $name: {$error->getMessage()}\n";
    }
}
exit($failed ? 1 : 0);
