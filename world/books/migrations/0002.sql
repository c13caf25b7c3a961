-- Version 2: sums of months, for statements; sums of devices over longer runs of
-- days than one; events by their subject; deliveries by their endpoint. What stands
-- in /*sqlite … */ is read by SQLite only: such a table is kept in the order of its
-- key, so sums are read faster, and take half the room.

-- months: what was sold of a service, at prices of a currency from a source, in
-- the UTC month that begins at at_ms: by each device, and by all as device ''.
CREATE TABLE months (
	at_ms BIGINT NOT NULL, device TEXT NOT NULL, service TEXT NOT NULL, currency TEXT NOT NULL, rate_source TEXT NOT NULL, gateway TEXT NOT NULL,
	orders BIGINT NOT NULL, failed BIGINT NOT NULL, units BIGINT NOT NULL,
	earned_msat BIGINT NOT NULL, refunded_msat BIGINT NOT NULL, fiat_micro BIGINT NOT NULL,
	btc_low BIGINT NOT NULL, btc_high BIGINT NOT NULL, rate_first_ms BIGINT NOT NULL, rate_last_ms BIGINT NOT NULL,
	PRIMARY KEY (at_ms, device, service, currency, rate_source, gateway)
) /*sqlite WITHOUT ROWID */;

-- Which month a day is in, by whole numbers, which both databases divide alike:
-- years begin in March, so that a leap day is the last of one; doe is the day in
-- its 400 years, yoe its year there, doy its day in that, and each five months
-- have 153 days.
CREATE TABLE month_of (day BIGINT PRIMARY KEY, at_ms BIGINT NOT NULL);
INSERT INTO month_of (day, at_ms)
SELECT day, (day - (doy - (153 * ((5 * doy + 2) / 153) + 2) / 5)) * 86400000 FROM (
	SELECT day, doe - (365 * yoe + yoe / 4 - yoe / 100) AS doy FROM (
		SELECT day, doe, (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365 AS yoe FROM (
			SELECT day, (day + 719468) % 146097 AS doe FROM (SELECT DISTINCT first_ms / 86400000 AS day FROM orders) AS a) AS b) AS c) AS d;
INSERT INTO months
SELECT m.at_ms, o.device, o.service, o.currency, o.rate_source, o.gateway, COUNT(*),
	SUM(CASE WHEN o.state IN ('failed', 'refunded', 'expired') THEN 1 ELSE 0 END), SUM(o.units),
	SUM(CASE WHEN o.state IN ('paid', 'delivered', 'settled') AND o.paid_msat > o.back_msat THEN o.paid_msat - o.back_msat ELSE 0 END),
	SUM(o.back_msat), SUM(o.fiat_micro), MIN(o.btc_micro), MAX(o.btc_micro), MIN(o.rate_ms), MAX(o.rate_ms)
FROM orders AS o JOIN month_of AS m ON m.day = o.first_ms / 86400000
WHERE o.test = 0 AND o.device <> '' GROUP BY m.at_ms, o.device, o.service, o.currency, o.rate_source, o.gateway;
INSERT INTO months
SELECT m.at_ms, '', o.service, o.currency, o.rate_source, o.gateway, COUNT(*),
	SUM(CASE WHEN o.state IN ('failed', 'refunded', 'expired') THEN 1 ELSE 0 END), SUM(o.units),
	SUM(CASE WHEN o.state IN ('paid', 'delivered', 'settled') AND o.paid_msat > o.back_msat THEN o.paid_msat - o.back_msat ELSE 0 END),
	SUM(o.back_msat), SUM(o.fiat_micro), MIN(o.btc_micro), MAX(o.btc_micro), MIN(o.rate_ms), MAX(o.rate_ms)
FROM orders AS o JOIN month_of AS m ON m.day = o.first_ms / 86400000
WHERE o.test = 0 GROUP BY m.at_ms, o.service, o.currency, o.rate_source, o.gateway;
DROP TABLE month_of;

-- runs: sums of a device over days days from at_ms; they take the place of days.
CREATE TABLE runs (
	days BIGINT NOT NULL, at_ms BIGINT NOT NULL, name TEXT NOT NULL, gateway TEXT NOT NULL,
	orders BIGINT NOT NULL, earned_msat BIGINT NOT NULL, refunded_msat BIGINT NOT NULL, failed BIGINT NOT NULL,
	payments BIGINT NOT NULL, spent_msat BIGINT NOT NULL, fees_msat BIGINT NOT NULL,
	PRIMARY KEY (days, at_ms, name, gateway)
) /*sqlite WITHOUT ROWID */;
INSERT INTO runs SELECT r.n, d.at_ms - d.at_ms % (r.n * 86400000), d.name, d.gateway,
	SUM(d.orders), SUM(d.earned_msat), SUM(d.refunded_msat), SUM(d.failed), SUM(d.payments), SUM(d.spent_msat), SUM(d.fees_msat)
FROM days AS d CROSS JOIN (SELECT CAST(1 AS BIGINT) AS n UNION ALL SELECT 2 UNION ALL SELECT 4 UNION ALL SELECT 8 UNION ALL SELECT 16) AS r
GROUP BY r.n, d.at_ms - d.at_ms % (r.n * 86400000), d.name, d.gateway;
DROP TABLE days;

CREATE INDEX events_about ON events (subject, seq);

DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (endpoint, state, next_ms, event);
