/* coinop for microcontrollers: a device that pays with hash-chain coins and
 * signed tickets, and acts on commands that somebody paid for.
 *
 * Nothing here allocates, waits, or knows the time, the link or the flash: the
 * program hands in bytes and milliseconds, and a port of five functions does the
 * rest. Calls are not reentrant; make them from one loop.
 *
 * What is promised is in flash before it is sent. After a power cut the device
 * sends again what was not acknowledged; nothing is paid twice. */
#ifndef COINOP_H
#define COINOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limits, which a build may change with -D. */
#ifndef COINOP_ORDERS
#define COINOP_ORDERS 4 /* that each channel remembers, unacknowledged ones included; a power of two */
#endif
#ifndef COINOP_LEVELS
#define COINOP_LEVELS 12 /* log2 of the coins in the longest chain: 36 bytes of RAM each, twice */
#endif
#ifndef COINOP_RESEND
#define COINOP_RESEND 2000 /* milliseconds until what is not answered is sent again */
#endif
#ifndef COINOP_STAMPS
#define COINOP_STAMPS 0 /* 1: check the payee's Ed25519 stamps instead of trusting the link */
#endif
#ifndef COINOP_VERIFY
#define COINOP_VERIFY 1 /* 0: commands are signed with a shared secret, not by the gateway's key */
#endif
#ifndef COINOP_GATEWAYS
#define COINOP_GATEWAYS 1 /* that may send commands */
#endif
#ifndef COINOP_SLOT /* bytes of flash that hold the state once */
#define COINOP_SLOT ((COINOP_RECORD_MAX + 255) / 256 * 256)
#endif
#define COINOP_RECORD_MAX (330 + 52 * COINOP_ORDERS + 170 * COINOP_GATEWAYS)

enum {
    COINOP_ID = 16,      /* bytes in an order, a session or a channel */
    COINOP_NAME = 65,    /* bytes in a name, with its 0 */
    COINOP_WHY = 40,     /* bytes in the reason of a failure, with its 0 */
    COINOP_READING = 40, /* bytes in what a device has to show for a command */
    COINOP_WINDOW = 32,  /* commands of which a device knows that it had them (fleet.Window) */
    COINOP_MESSAGE = 340 + 27 * COINOP_ORDERS /* longest message that a device sends */
};

/* What becomes of an order that is handed to coinop_pay. */
enum coinop_answer {
    COINOP_PROMISED, /* in flash and on its way; COINOP_PAID will be told */
    COINOP_DONE,     /* it was paid before */
    COINOP_WAIT,     /* not now; try again when something is paid or settled */
    COINOP_REFUSED,  /* not in this channel: closed, too much, used up */
    COINOP_BROKEN,   /* the flash failed, so nothing was sent: reset the device */
    COINOP_FORBIDDEN /* the owner's policy does not allow it, perhaps not yet again */
};

/* What a device tells its program. */
enum coinop_news {
    COINOP_OPENED,  /* a channel takes orders; id is the channel */
    COINOP_PAID,    /* the payee has an order's money; after a power cut, perhaps told again */
    COINOP_SETTLED, /* a ticket has paid for coins; id is the settlement */
    COINOP_REJECTED, /* the payee does not want the channel; id is the channel */
    COINOP_GOODS,    /* an order's goods are here, in the device's fields, until tell returns */
    COINOP_DECLINED  /* the seller will not deliver an order; the fields have its words */
};

/* A command to act (fleet.Command), and how it went. */
struct coinop_command {
    uint32_t gateway;
    uint64_t number; /* of this device's commands at that gateway */
    uint8_t order[COINOP_ID];
    char verb[COINOP_NAME]; /* "open", "close" */
    char item[COINOP_NAME];
    uint64_t units;
    uint64_t until; /* Unix milliseconds; 0 for no end */
    bool test;      /* nobody paid, somebody watches */
};

enum coinop_result {
    COINOP_NEVER,   /* not begun */
    COINOP_ACTING,  /* coinop_acted will tell */
    COINOP_ACTED,
    COINOP_FAILED,  /* it has certainly not acted */
    COINOP_UNKNOWN  /* nobody can say */
};

struct coinop_outcome {
    char why[COINOP_WHY]; /* one line for people, ending in 0; of a failure */
    uint8_t reading[COINOP_READING];
    uint8_t reading_size;
};

/* A port is what a board does for coinop. Every function gets `self`. */
struct coinop_port {
    void *self;

    /* Sends one whole message to the gateway, best effort. */
    void (*send)(void *self, const uint8_t *message, size_t size);

    /* Reads and writes a slot of COINOP_SLOT bytes; false on failure. A write
     * that a power cut tears is found by its checksum, but must not harm the
     * slot before. So where flash is erased by pages, there are at least two
     * pages, and a page is erased when its first slot is written. */
    bool (*read)(void *self, uint32_t slot, uint8_t *bytes);
    bool (*write)(void *self, uint32_t slot, const uint8_t *bytes);
    uint32_t slots; /* 2 or more; each write goes to the next, so more wear longer */

    /* Hears news. It must not call coinop: pay from the loop. */
    void (*tell)(void *self, enum coinop_news news, const uint8_t id[COINOP_ID]);

    /* Acts on a command, once, and fills in the outcome. What takes long answers
     * COINOP_ACTING, and the program says later how it went (coinop_acted). */
    enum coinop_result (*act)(void *self, const struct coinop_command *command, struct coinop_outcome *outcome);

    const char *firmware; /* its name and version, 1 to 64 bytes */
};

/* An entry is an order and its amount, in coins or msat. */
struct coinop_entry {
    uint8_t order[COINOP_ID];
    uint64_t amount;
};

/* A ledger is what one channel has promised: ticket k is for the order at k
 * modulo COINOP_ORDERS. Totals are in units. */
struct coinop_ledger {
    uint64_t unit;       /* msat */
    uint64_t seq, acked; /* the last ticket made, and the last stamped */
    uint64_t total, stamped;
    struct coinop_entry entries[COINOP_ORDERS];
    const uint8_t *stamp_key;
    uint32_t sent; /* milliseconds: when all that is pending last went out */
};

enum coinop_state { COINOP_NONE, COINOP_OPENING, COINOP_OPEN, COINOP_CLOSING };

/* A chain hands out words (package payword). */
struct coinop_chain {
    uint32_t length, levels, index, down;
    uint8_t word[32];
    uint32_t at[COINOP_LEVELS + 1];
    uint8_t pebbles[COINOP_LEVELS + 1][32];
};

struct coinop_coins {
    enum coinop_state state;
    const uint8_t *agreed; /* the message with the terms */
    size_t agreed_size;
    const uint8_t *node; /* the payee's key */
    uint32_t length, every, credit;
    uint64_t epoch, start, settled, settlements, owed; /* all but the first and fourth in coins */
    uint8_t root[32], sig[64];
    struct coinop_chain chain, next;
    struct coinop_ledger ledger;
};

struct coinop_tickets {
    enum coinop_state state;
    const uint8_t *funded; /* the message with the terms */
    size_t funded_size;
    const uint8_t *node;
    uint64_t capacity; /* msat */
    uint32_t expiry, fee_rate, point_index;
    const uint8_t *payer_key, *payer_script, *payee_key, *payee_script, *point;
    uint8_t key[32];
    struct coinop_ledger ledger;
};

/* What a device knows of one gateway's commands: command n is at n modulo
 * COINOP_WINDOW. */
struct coinop_duty {
    uint64_t last;
    uint8_t result[COINOP_WINDOW];
    uint32_t order[COINOP_WINDOW]; /* folded */
};

/* The last acknowledgement, kept to be sent again to the bit. */
struct coinop_ack {
    uint32_t gateway;
    uint64_t number, counter;
    uint8_t order[COINOP_ID];
    enum coinop_result result;
    struct coinop_outcome outcome;
};

/* What the owner allows the device to pay (fleet.Policy), and what was paid under
 * it. Amounts are msat; 0 is no limit. */
struct coinop_policy {
    bool given;
    uint8_t period, payees; /* of policy.c */
    uint32_t per_minute;
    uint64_t version, order, total, expires;
    uint64_t spent;         /* in the period that began on day `since` from 1970 */
    uint32_t since, count;  /* payments since the millisecond `minute` */
    uint32_t minute;
    bool counting;
};

/* A device is all of coinop's memory. Its fields are for reading only. */
struct coinop_device {
    const struct coinop_port *port;
    const uint8_t *name, *gateway; /* from the blob, and in it */
    size_t name_size, gateway_size;
    uint8_t key[32], pub[33];
    struct coinop_coins coins;
    struct coinop_tickets tickets;
    struct coinop_duty duties[COINOP_GATEWAYS];
    struct coinop_ack ack;
    struct coinop_policy policy;
    uint64_t unix_ahead; /* of now, in milliseconds; 0 if nobody told the time */
    uint32_t now, record;
    uint32_t asked, clocked; /* when the gateway was asked for the time, and had told it */
    bool changed, broken, own_clock;
    const uint8_t *goods; /* while COINOP_GOODS or COINOP_DECLINED is told */
    size_t goods_size;
    uint8_t buffer[COINOP_MESSAGE > COINOP_SLOT ? COINOP_MESSAGE : COINOP_SLOT];
};

/* coinop_start loads a device from its flash, or starts it with the blob that was
 * made at commissioning (README), which must stay where it is. It hashes twice
 * the words of a chain at most, and makes three to four signatures' worth of
 * curve. False: the key or the blob is not this device's, or this build is too
 * small for it, or the flash cannot be read. */
bool coinop_start(struct coinop_device *d, const struct coinop_port *port, const uint8_t key[32], const uint8_t *blob, size_t size);

/* coinop_linked says that the link came up: what was sent before may be lost. */
void coinop_linked(struct coinop_device *d);

/* coinop_receive takes one whole message from the gateway. Anything else is
 * ignored. */
void coinop_receive(struct coinop_device *d, const uint8_t *message, size_t size);

/* coinop_tick tells the time, in milliseconds from anywhere; twice a second is
 * enough. coinop_clock tells what day it is, whenever the program learns it. A
 * device that nobody tells asks its gateway; until it knows, it refuses commands
 * that have a deadline, and no budget renews. */
void coinop_tick(struct coinop_device *d, uint32_t now);
void coinop_clock(struct coinop_device *d, uint64_t unix_ms);

/* coinop_pay pays an order with so many coins; the same order is paid once, as
 * long as it is remembered. coinop_meter pays a session, each time it is called.
 * coinop_pay_msat pays an order with a ticket of its own. */
enum coinop_answer coinop_pay(struct coinop_device *d, const uint8_t order[COINOP_ID], uint32_t coins);
enum coinop_answer coinop_meter(struct coinop_device *d, const uint8_t session[COINOP_ID], uint32_t coins);
enum coinop_answer coinop_pay_msat(struct coinop_device *d, const uint8_t order[COINOP_ID], uint64_t msat);

/* coinop_settle settles the stamped coins now, not when there are enough. */
void coinop_settle(struct coinop_device *d);

/* coinop_buy tells the seller what an order is for (trade.Buy). It may be lost;
 * the seller waits for it, so say it again until the goods are here. */
void coinop_buy(struct coinop_device *d, const uint8_t order[COINOP_ID], const char *item, uint64_t units);

/* coinop_acted says how a command went that act answered with COINOP_ACTING. */
void coinop_acted(struct coinop_device *d, enum coinop_result result, const struct coinop_outcome *outcome);

/* coinop_trouble tells people what they should see to (fleet.Trouble). */
void coinop_trouble(struct coinop_device *d, const char *text);

#endif
