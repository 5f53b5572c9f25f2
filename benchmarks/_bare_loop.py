"""The least a gateway must do, as a process of its own: take messages, commit their bytes, acknowledge them.

python -m benchmarks._bare_loop BROKER_URL CLIENT_ID TABLE_URL COUNT BATCH; prints speed and processor time (JSON).
Used by benchmarks.gateway. Nothing is understood, checked, hashed or answered.
"""

import json
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import paho.mqtt.client as paho
import psycopg
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import make_url

from wire.client import BrokerAddress
from wire.topics import Channel, all_up

Row = tuple[str, int, bytes]
_CREATE = "CREATE TABLE bare (topic TEXT, seq BIGINT, payload {}, PRIMARY KEY (topic, seq))"


@contextmanager
def bare_table(url: str) -> Iterator[Callable[[list[Row]], None]]:
    """A table with the same key and bytes, on the same engine: gives the commit into it, drops it at the end."""
    if make_url(url).get_backend_name() == "sqlite":
        with closing(sqlite3.connect(f"{make_url(url).database}.bare", check_same_thread=False)) as lite:
            lite.execute("PRAGMA journal_mode=WAL")
            lite.execute("PRAGMA synchronous=FULL")
            lite.execute(_CREATE.format("BLOB"))

            def commit_lite(rows: list[Row]) -> None:
                lite.executemany("INSERT OR IGNORE INTO bare VALUES (?, ?, ?)", rows)
                lite.commit()

            yield commit_lite
            lite.execute("DROP TABLE bare")
        return
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as server:
        server.execute(_CREATE.format("BYTEA"))  # type: ignore[arg-type]
        server.commit()

        def commit_server(rows: list[Row]) -> None:
            with server.cursor() as cursor:
                cursor.executemany("INSERT INTO bare VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", rows)
            server.commit()

        yield commit_server
        server.execute("DROP TABLE bare")


def main() -> None:
    """Drain COUNT messages and say how fast it went after the first tenth."""
    broker, name, table, count, most = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    address = BrokerAddress.parse(broker)
    client = paho.Client(CallbackAPIVersion.VERSION2, name, clean_session=False, manual_ack=True)
    client.username_pw_set(address.username, address.password)
    batch: list[tuple[Row, int]] = []
    done, finished = 0, threading.Event()
    marks: list[tuple[int, float, float]] = []
    with bare_table(table) as commit:

        def on_message(_client: object, _data: object, message: paho.MQTTMessage) -> None:
            nonlocal done
            batch.append(((message.topic, done + len(batch), message.payload), message.mid))
            if len(batch) < most and done + len(batch) < count:
                return
            commit([row for row, _ in batch])
            for _, mid in batch:
                client.ack(mid, 1)
            done += len(batch)
            batch.clear()
            if done >= count or (not marks and done >= count / 10):
                marks.append((done, time.perf_counter(), time.process_time()))
            if done >= count:
                finished.set()

        def connected(*_: object) -> None:
            client.subscribe(all_up(Channel.USAGE), 1)

        client.on_message, client.on_connect = on_message, connected
        client.connect(address.host, address.port)
        client.loop_start()
        finished.wait()
        client.disconnect()
        client.loop_stop()
    (first, began, cpu), (last, ended, cpu_ended) = marks[0], marks[-1]
    records = last - first
    sys.stdout.write(json.dumps({"per_s": records / (ended - began), "cpu_us": (cpu_ended - cpu) / records * 1e6}))


if __name__ == "__main__":
    main()
