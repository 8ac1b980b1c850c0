"""etcd3gw (the client OpenStack uses) over the JSON gateway: `etcd_gateway.py HOST:PORT`. Prints a line for each part, or fails."""

import sys
import threading

from etcd3gw import client, exceptions


def keys(etcd):
    assert etcd.put("k/a", "1") and etcd.put("k/b", b"\x00\xff2") and etcd.put("k/a", "3")
    assert etcd.get("k/a") == [b"3"] and etcd.get("k/b") == [b"\x00\xff2"] and etcd.get("none") == []
    found = etcd.get_prefix("k/", sort_order="descend", sort_target="key")
    assert [(value, meta["key"]) for value, meta in found] == [(b"\x00\xff2", b"k/b"), (b"3", b"k/a")], found
    version = found[1][1]
    assert (version["version"], int(version["mod_revision"]) - int(version["create_revision"])) == ("2", 2), version
    assert etcd.get("k/a", revision=int(version["create_revision"])) == [b"1"]
    assert [meta["key"] for _, meta in etcd.get("k/a", metadata=True, range_end="k/z", limit=1)] == [b"k/a"]
    assert etcd.create("k/c", "new") and not etcd.create("k/c", "again") and etcd.get("k/c") == [b"new"]
    assert etcd.replace("k/c", "new", "newer") and not etcd.replace("k/c", "new", "x")
    assert etcd.get("k/c") == [b"newer"]
    assert etcd.delete("k/c") and not etcd.delete("k/c")
    assert etcd.delete_prefix("k/") and etcd.get_all() == []


def transactions(etcd):
    put = {"request_put": {"key": "dC9h", "value": "MQ=="}}
    absent = {"key": "dC9h", "target": "VERSION", "result": "EQUAL", "version": 0}
    done = etcd.transaction({"compare": [absent], "success": [put], "failure": []})
    assert done["succeeded"] and "response_put" in done["responses"][0], done
    get = {"request_range": {"key": "dC9h"}}
    done = etcd.transaction({"compare": [absent], "success": [put], "failure": [get]})
    assert not done.get("succeeded") and done["responses"][0]["response_range"]["kvs"][0]["value"] == "MQ==", done
    try:
        etcd.transaction({"compare": [], "success": [put, put], "failure": []})
    except exceptions.Etcd3Exception as error:
        assert "etcdserver: duplicate key given in txn request" in error.detail_text, error.detail_text
    else:
        raise AssertionError("a key was put twice")


def leases(etcd):
    lease = etcd.lease(600)
    assert 0 < lease.ttl() <= 600 and lease.refresh() == 600
    assert etcd.put("l/a", "1", lease=lease) and lease.keys() == [b"l/a"]
    assert lease.revoke() and etcd.get("l/a") == []
    held = etcd.lock("one", ttl=60)
    assert held.acquire() and held.is_acquired() and not etcd.lock("one", ttl=60).acquire()
    assert held.refresh() == 60 and held.release() and not held.is_acquired()
    with etcd.lock("one", ttl=60) as again:
        assert again.is_acquired()


def watches(etcd):
    etcd.put("w/a", "0")
    begin = int(etcd.get("w/a", metadata=True)[0][1]["mod_revision"])
    events, cancel = etcd.watch_prefix("w/", start_revision=begin, prev_kv=True)

    def write():
        etcd.put("other", "x")
        etcd.put("w/b", "1")
        etcd.put("w/a", "2")
        etcd.delete("w/b")

    writer = threading.Thread(target=write)
    writer.start()
    seen = [next(events) for _ in range(4)]
    writer.join()
    cancel()
    shape = [(event.get("type", "PUT"), event["kv"]["key"], event["kv"].get("value")) for event in seen]
    expect = [("PUT", b"w/a", b"0"), ("PUT", b"w/b", b"1"), ("PUT", b"w/a", b"2"), ("DELETE", b"w/b", None)]
    assert shape == expect, shape
    assert "prev_kv" in seen[2] and "prev_kv" in seen[3] and "prev_kv" not in seen[1], seen


def server(etcd):
    status = etcd.status()
    assert status["version"].startswith("3.6.") and int(status["raftIndex"]) > 0, status
    members = list(etcd.members())
    assert len(members) == 1 and members[0]["ID"] == status["header"]["member_id"], members


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    etcd = client(host=host, port=int(port), timeout=10)
    for part in (keys, transactions, leases, watches, server):
        part(etcd)
        print("ok", part.__name__, flush=True)


main()
