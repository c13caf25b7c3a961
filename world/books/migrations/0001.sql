-- Version 1. SQLite and PostgreSQL read the same: TEXT and BIGINT, nothing else.
-- Times are Unix milliseconds, amounts msat, flags 0 or 1; nothing is NULL.

-- counters number what all gateways share. Whoever adds holds the row until it
-- commits, so numbers become visible in their order.
CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
INSERT INTO counters (name, value) VALUES ('events', 0), ('devices', 0);

-- cursors: up to which event of its journal each gateway is in the books.
CREATE TABLE cursors (gateway TEXT PRIMARY KEY, n BIGINT NOT NULL);

CREATE TABLE events (
	seq BIGINT PRIMARY KEY,
	gateway TEXT NOT NULL, n BIGINT NOT NULL,
	at_ms BIGINT NOT NULL, type TEXT NOT NULL, subject TEXT NOT NULL, data TEXT NOT NULL
);
CREATE INDEX events_of ON events (gateway, n);

CREATE TABLE orders (
	id TEXT NOT NULL, gateway TEXT NOT NULL,
	first_ms BIGINT NOT NULL, at_ms BIGINT NOT NULL,
	state TEXT NOT NULL, service TEXT NOT NULL, units BIGINT NOT NULL,
	due_msat BIGINT NOT NULL, paid_msat BIGINT NOT NULL, back_msat BIGINT NOT NULL,
	currency TEXT NOT NULL, btc_micro BIGINT NOT NULL, rate_source TEXT NOT NULL, rate_ms BIGINT NOT NULL,
	fiat_micro BIGINT NOT NULL,
	buyer TEXT NOT NULL, device TEXT NOT NULL,
	tab BIGINT NOT NULL, test BIGINT NOT NULL,
	why TEXT NOT NULL, how TEXT NOT NULL, until_ms BIGINT NOT NULL,
	rest TEXT NOT NULL,
	PRIMARY KEY (id, gateway)
);
CREATE INDEX orders_newest ON orders (first_ms, id);
CREATE INDEX orders_of_service ON orders (service, first_ms, id);
CREATE INDEX orders_of_device ON orders (device, first_ms, id);
CREATE INDEX orders_of_buyer ON orders (buyer, first_ms, id);
CREATE INDEX orders_in_state ON orders (state, first_ms, id);

-- payments: what the gateway's own purse paid.
CREATE TABLE payments (
	id TEXT NOT NULL, gateway TEXT NOT NULL,
	first_ms BIGINT NOT NULL, at_ms BIGINT NOT NULL,
	state TEXT NOT NULL, payee TEXT NOT NULL, amount_msat BIGINT NOT NULL, fee_msat BIGINT NOT NULL,
	what TEXT NOT NULL, units BIGINT NOT NULL, device TEXT NOT NULL, why TEXT NOT NULL,
	PRIMARY KEY (id, gateway)
);
CREATE INDEX payments_newest ON payments (first_ms, id);

-- hours and days are sums over orders and payments, kept with them.
CREATE TABLE hours (
	at_ms BIGINT NOT NULL, name TEXT NOT NULL, gateway TEXT NOT NULL,
	orders BIGINT NOT NULL, earned_msat BIGINT NOT NULL, refunded_msat BIGINT NOT NULL, failed BIGINT NOT NULL,
	payments BIGINT NOT NULL, spent_msat BIGINT NOT NULL, fees_msat BIGINT NOT NULL,
	PRIMARY KEY (at_ms, name, gateway)
);
CREATE TABLE days (
	at_ms BIGINT NOT NULL, name TEXT NOT NULL, gateway TEXT NOT NULL,
	orders BIGINT NOT NULL, earned_msat BIGINT NOT NULL, refunded_msat BIGINT NOT NULL, failed BIGINT NOT NULL,
	payments BIGINT NOT NULL, spent_msat BIGINT NOT NULL, fees_msat BIGINT NOT NULL,
	PRIMARY KEY (at_ms, name, gateway)
);

CREATE TABLE endpoints (
	id TEXT PRIMARY KEY, url TEXT NOT NULL, secret TEXT NOT NULL, types TEXT NOT NULL,
	off BIGINT NOT NULL, at_ms BIGINT NOT NULL
);
CREATE TABLE deliveries (
	endpoint TEXT NOT NULL, event BIGINT NOT NULL,
	state TEXT NOT NULL, attempts BIGINT NOT NULL, next_ms BIGINT NOT NULL, at_ms BIGINT NOT NULL,
	status BIGINT NOT NULL, error TEXT NOT NULL,
	PRIMARY KEY (endpoint, event)
);
CREATE INDEX deliveries_due ON deliveries (state, next_ms);
CREATE INDEX deliveries_of ON deliveries (event);

-- answers to requests with an Idempotency-Key.
CREATE TABLE answers (
	id TEXT PRIMARY KEY, request TEXT NOT NULL, at_ms BIGINT NOT NULL,
	status BIGINT NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL
);
CREATE INDEX answers_oldest ON answers (at_ms);

CREATE TABLE devices (
	name TEXT PRIMARY KEY, version BIGINT NOT NULL, change BIGINT NOT NULL,
	gateway TEXT NOT NULL, at_ms BIGINT NOT NULL, data TEXT NOT NULL
);
CREATE INDEX devices_changed ON devices (change);

-- budgets: how much of a window's limit is given out; leases: to whom.
CREATE TABLE budgets (
	device TEXT NOT NULL, window_ms BIGINT NOT NULL, leased_msat BIGINT NOT NULL, granted_msat BIGINT NOT NULL,
	PRIMARY KEY (device, window_ms)
);
CREATE TABLE leases (
	device TEXT NOT NULL, window_ms BIGINT NOT NULL, gateway TEXT NOT NULL, leased_msat BIGINT NOT NULL,
	PRIMARY KEY (device, window_ms, gateway)
);
