#!/usr/bin/python3
"""Clients that know only Redis, and take locks there in the usual ways.

	redis_lockers.py KIND PORT KEY

KIND is one of

	library		redis.lock.Lock of redis-py
	set			SET key token NX PX, released by a script that compares the token,
				as the manual of Redis has it
	rueidislock	the same for the three keys rueidislock:0..2:KEY, two of which
				are enough

Commands are read from standard input, each is answered by a line:

	try	MS			take the lock for so long: "acquired TIME" or "refused"
	wait MS SECONDS	the same, trying again for so many seconds
	extend MS		"extended" or "not owned"
	release			"released" or "not owned"

TIME is in seconds since 1970, when Redis has agreed.  Needs Debian's python3-redis.
"""

import sys
import time
import uuid

import redis
from redis.exceptions import LockError
from redis.lock import Lock

RELEASE = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
return 0
"""
EXTEND = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end
return 0
"""
MAJORITY = 2


class Library:
	def __init__(self, connection, key):
		self.connection, self.key, self.lock = connection, key, None

	def acquire(self, ms):
		lock = Lock(self.connection, self.key, timeout=ms / 1000, blocking=False)
		if not lock.acquire():
			return False
		self.lock = lock
		return True

	def extend(self, ms):
		try:
			return self.lock.extend(ms / 1000, replace_ttl=True)
		except LockError:
			return False

	def release(self):
		try:
			self.lock.release()
			return True
		except LockError:
			return False


class Plain:
	"""One or several keys, of which some number is enough."""

	def __init__(self, connection, keys, enough):
		self.connection, self.keys, self.enough = connection, keys, enough
		self.token = str(uuid.uuid4())

	def acquire(self, ms):
		got = [key for key in self.keys if self.connection.set(key, self.token, nx=True, px=ms)]
		if len(got) >= self.enough:
			return True
		self.each(got, RELEASE)
		return False

	def each(self, keys, script, *args):
		return sum(self.connection.eval(script, 1, key, self.token, *args) for key in keys)

	def extend(self, ms):
		return self.each(self.keys, EXTEND, ms) >= self.enough

	def release(self):
		return self.each(self.keys, RELEASE) >= self.enough


def acquire(client, ms, until):
	while True:
		if client.acquire(ms):
			return f"acquired {time.time():.6f}"
		if time.time() >= until:
			return "refused"
		time.sleep(0.02)


def main(kind, port, key):
	connection = redis.Redis(host="127.0.0.1", port=int(port))
	client = {
		"library": lambda: Library(connection, key),
		"set": lambda: Plain(connection, [key], 1),
		"rueidislock": lambda: Plain(
			connection, [f"rueidislock:{i}:{key}" for i in range(2 * MAJORITY - 1)], MAJORITY),
	}[kind]()

	for line in sys.stdin:
		verb, *args = line.split()
		if verb == "try":
			answer = acquire(client, int(args[0]), 0)
		elif verb == "wait":
			answer = acquire(client, int(args[0]), time.time() + float(args[1]))
		elif verb == "extend":
			answer = "extended" if client.extend(int(args[0])) else "not owned"
		elif verb == "release":
			answer = "released" if client.release() else "not owned"
		else:
			sys.exit(f"unknown command: {verb}")
		print(answer, flush=True)


main(*sys.argv[1:])
