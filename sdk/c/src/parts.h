/* What the parts of coinop share, and programs do not need. */
#ifndef COINOP_PARTS_H
#define COINOP_PARTS_H

#include <string.h>

#include "coinop.h"

/* Bytes. */
uint32_t load32(const uint8_t *b); /* big-endian, as all here */
void store32(uint8_t *b, uint32_t v);
void store64(uint8_t *b, uint64_t v);
size_t length_of(const char *text);
const char *decimal(uint64_t v, char text[21]);
void wipe(void *p, size_t n);

/* Hashes. */
struct sha256 {
    uint32_t h[8];
    uint32_t bytes;
    uint8_t block[64];
};

void sha256_start(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t n);
void sha256_end(struct sha256 *s, uint8_t sum[32]);
void sha256_tagged(struct sha256 *s, const char *tag); /* a start: keys.Digest */
void hmac_start(struct sha256 *s, const uint8_t key[32]);
void hmac_end(struct sha256 *s, const uint8_t key[32], uint8_t sum[32]);

/* Keys. */
bool key_valid(const uint8_t key[32]);
void key_public(uint8_t pub[33], const uint8_t key[32]);
void key_derive(uint8_t child[32], const uint8_t key[32], const char *purpose, const char *more);
void ecdsa_sign(uint8_t sig[64], const uint8_t key[32], const uint8_t digest[32]);
bool ecdsa_verify(const uint8_t pub[33], const uint8_t digest[32], const uint8_t sig[64]);
bool ed25519_verify(const uint8_t pub[32], const uint8_t *message, size_t size, const uint8_t sig[64]);

/* A writer that is full writes no more, and says so at the end. */
struct writer {
    uint8_t *b;
    size_t n, room;
};

void put(struct writer *w, const void *bytes, size_t n);
void put_u8(struct writer *w, uint8_t v);
void put_u16(struct writer *w, uint16_t v);
void put_u32(struct writer *w, uint32_t v);
void put_uint(struct writer *w, uint64_t v); /* core/codec's varint */
void put_text(struct writer *w, const void *bytes, size_t n);
bool put_fits(const struct writer *w);

/* A reader that has failed gives zeros, and says so at the end. */
struct reader {
    const uint8_t *b;
    size_t n;
    bool bad;
};

const uint8_t *take(struct reader *r, size_t n); /* NULL if there are fewer */
void take_into(struct reader *r, void *to, size_t n);
uint8_t take_u8(struct reader *r);
uint16_t take_u16(struct reader *r);
uint32_t take_u32(struct reader *r);
uint64_t take_uint(struct reader *r, uint64_t limit);
const uint8_t *take_text(struct reader *r, size_t limit, size_t *n);
bool take_end(struct reader *r); /* all was read, and nothing failed */

/* A build that contradicts itself does not compile. */
typedef char orders_are_a_power_of_two[(COINOP_ORDERS & (COINOP_ORDERS - 1)) == 0 ? 1 : -1];
typedef char slot_holds_a_record[COINOP_SLOT >= COINOP_RECORD_MAX ? 1 : -1];

enum { SHARED = 32, MAX_SIG = 64 }; /* bytes of a gateway's secret, and of a signature */

#define MAX_TIME ((UINT64_C(1) << 48) - 1) /* milliseconds: the year 10889 */
#define MAX_AMOUNT UINT64_C(2100000000000000000) /* msat: all bitcoin */

/* Ledgers: ledger.c */
enum known { UNKNOWN, PENDING, STAMPED };

struct coinop_entry *ledger_at(struct coinop_ledger *l, uint64_t seq);
uint32_t ledger_pending(const struct coinop_ledger *l);
enum known ledger_find(struct coinop_ledger *l, const uint8_t order[COINOP_ID]);
void ledger_promise(struct coinop_ledger *l, const uint8_t order[COINOP_ID], uint64_t amount);
void ledger_run(struct coinop_ledger *l, struct writer *w, bool all);
bool ledger_taken(struct coinop_ledger *l, const uint8_t channel[COINOP_ID], struct reader *r, uint64_t *from);
void ledger_store(struct coinop_ledger *l, struct writer *w);
void ledger_load(struct coinop_ledger *l, struct reader *r);

/* Chains: chain.c */
void chain_start(struct coinop_chain *c, const uint8_t seed[32], uint32_t length);
void chain_lay(struct coinop_chain *c, uint32_t to);
void chain_move(struct coinop_chain *c, uint32_t to);

/* Channels. Both promise, send what is pending, and take stamps. */
bool coins_terms(struct coinop_device *d, const uint8_t *agreed, size_t size);
void coins_load(struct coinop_device *d);
void coins_send(struct coinop_device *d, bool all);
void coins_receive(struct coinop_device *d, uint16_t type, struct reader *r);
void coins_settled(struct coinop_device *d);
void coins_settle(struct coinop_device *d, uint64_t least);
bool coins_settlement(struct coinop_device *d, const uint8_t order[COINOP_ID]);

bool tickets_terms(struct coinop_device *d, uint64_t index, const uint8_t *funded, size_t size);
enum coinop_answer tickets_promise(struct coinop_device *d, const uint8_t order[COINOP_ID], uint64_t msat, bool settles);
void tickets_send(struct coinop_device *d, bool all);
void tickets_receive(struct coinop_device *d, uint16_t type, struct reader *r);

/* Policies: policy.c */
enum payee { PAYEE_COINS = 1, PAYEE_TICKETS = 2, PAYEE_ANY = 4 };

bool policy_allows(struct coinop_device *d, enum payee who, uint64_t msat);
void policy_count(struct coinop_device *d, uint64_t msat);
void policy_receive(struct coinop_device *d, struct reader *r);
void policy_other(struct coinop_device *d, enum payee who);
void policy_store(const struct coinop_device *d, struct writer *w);
void policy_load(struct coinop_device *d, struct reader *r);

/* Commands: duty.c */
void seal_start(const struct coinop_device *d, struct sha256 *s, const char *tag, const char *purpose);
bool seal_good(const struct coinop_device *d, struct sha256 *s, const uint8_t *sig, size_t size);
void duty_status(struct coinop_device *d);
void duty_receive(struct coinop_device *d, struct reader *r);
void duty_recover(struct coinop_device *d);
void duty_linked(struct coinop_device *d);
void duty_store(const struct coinop_device *d, struct writer *w);
void duty_load(struct coinop_device *d, struct reader *r);

/* The device: device.c */
struct writer message_start(struct coinop_device *d, uint16_t type);
void message_send(struct coinop_device *d, const struct writer *w);
bool device_save(struct coinop_device *d);
uint64_t device_time(const struct coinop_device *d); /* Unix milliseconds, or 0 */
void device_tell(struct coinop_device *d, enum coinop_news news, const uint8_t id[COINOP_ID]);

#endif
