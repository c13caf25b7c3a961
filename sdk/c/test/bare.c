/* Parts by themselves, for sdk_test.go: a line of a name and hex arguments in, a
 * line of hex out. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../src/parts.h"
#include "../src/num.h"
#include "../src/comb.h"
#include "coinop_mqtt.h"
#include "coinop_serial.h"

enum { ARGS = 8, ROOM = 70000 };

static uint8_t args[ARGS][ROOM];
static size_t sizes[ARGS];

static void print(const uint8_t *b, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) {
        printf("%02x", b[i]);
    }
    printf("\n");
    fflush(stdout);
}

static uint64_t number(int i) {
    uint64_t v = 0;
    size_t k;
    for (k = 0; k < sizes[i]; k++) {
        v = v << 8 | args[i][k];
    }
    return v;
}

static int parse(char *line, char **name) {
    int n = 0;
    char *word = strtok(line, " \n");
    *name = word;
    while ((word = strtok(NULL, " \n")) != NULL && n < ARGS) {
        size_t i, size = strlen(word) / 2;
        if (strcmp(word, "-") == 0) {
            size = 0;
        }
        for (i = 0; i < size; i++) {
            unsigned v;
            sscanf(word + 2 * i, "%2x", &v);
            args[n][i] = (uint8_t)v;
        }
        sizes[n] = size;
        n++;
    }
    return n;
}

static void words(void) {
    static struct coinop_chain c;
    uint64_t length = number(1), at = 0;
    size_t i;
    chain_start(&c, args[0], (uint32_t)length);
    chain_lay(&c, 0);
    for (i = 0; i + 4 <= sizes[2]; i += 4) {
        at += load32(args[2] + i);
        chain_move(&c, (uint32_t)at);
    }
    print(c.word, 32);
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Ports that do nothing, for bytes from nowhere. */
static void no_send(void *self, const uint8_t *b, size_t n) { (void)self, (void)b, (void)n; }
static bool no_read(void *self, uint32_t slot, uint8_t *b) {
    (void)self, (void)slot;
    memset(b, 0xff, COINOP_SLOT);
    return true;
}
static bool no_write(void *self, uint32_t slot, const uint8_t *b) {
    (void)self, (void)slot, (void)b;
    return true;
}
static void no_tell(void *self, enum coinop_news news, const uint8_t *id) { (void)self, (void)news, (void)id; }
static enum coinop_result no_act(void *self, const struct coinop_command *c, struct coinop_outcome *o) {
    (void)self, (void)c, (void)o;
    return COINOP_ACTED;
}
static void no_up(void *self) { (void)self; }
static uint32_t one(void *self) {
    (void)self;
    return 1;
}

static const struct coinop_port port = {NULL, no_send, no_read, no_write, 2, no_tell, no_act, ""};
static const struct coinop_serial_port line_port = {NULL, no_send, no_send, no_up, one, ""};
static const struct coinop_mqtt_port mqtt_port = {NULL, no_send, no_send, no_up, "", "", "", "", "", 1};

/* fuzz gives bytes to whatever reads bytes of a device that was started once;
 * blob to whatever reads a blob. */
static void fuzz(bool blob) {
    static struct coinop_device d;
    static struct coinop_serial s;
    static struct coinop_mqtt m;
    static bool started;
    uint8_t *copy = malloc(sizes[2] + 1), ok = 0; /* its own, so that ASan sees its end */
    memcpy(copy, args[2], sizes[2]);
    started = started || coinop_start(&d, &port, args[0], args[1], sizes[1]);
    coinop_receive(&d, copy, sizes[2]);
    coinop_tick(&d, d.now + 100);
    coinop_serial_start(&s, &line_port, 0);
    coinop_serial_receive(&s, copy, sizes[2]);
    coinop_mqtt_start(&m, &mqtt_port, 0);
    coinop_mqtt_receive(&m, copy, sizes[2]);
    if (blob) {
        static struct coinop_device other;
        ok = coinop_start(&other, &port, args[0], copy, sizes[2]);
    }
    free(copy);
    print(&ok, 1);
}

static void keep(void *self, const uint8_t *b, size_t n) {
    (void)self;
    print(b, n);
}

/* frame writes the frame of the bytes of a message on a line that is up. */
static void frame(void) {
    struct coinop_serial_port p = line_port;
    static struct coinop_serial s;
    p.write = no_send;
    coinop_serial_start(&s, &p, 0);
    p.write = keep;
    s.up = true;
    s.max = 65535;
    s.out = args[0][0];
    if (!coinop_serial_send(&s, args[1], sizes[1])) {
        printf("-\n");
    }
}

static void speed(void) {
    static struct coinop_chain c;
    uint8_t key[32] = {1}, digest[32] = {2}, sig[64], pub[33], seed[32] = {3};
    enum { COINS = 4096 };
    double t = seconds();
    int i;
    chain_start(&c, seed, COINS);
    chain_lay(&c, 0);
    printf("lay_ns_per_coin %.0f\n", (seconds() - t) * 1e9 / COINS);
    t = seconds();
    for (i = 1; i <= COINS; i++) {
        chain_move(&c, (uint32_t)i);
    }
    printf("coin_ns %.0f\n", (seconds() - t) * 1e9 / COINS);
    t = seconds();
    for (i = 0; i < 200; i++) {
        digest[0] = (uint8_t)i;
        ecdsa_sign(sig, key, digest);
    }
    printf("sign_us %.0f\n", (seconds() - t) * 1e6 / 200);
    key_public(pub, key);
    t = seconds();
    for (i = 0; i < 50; i++) {
        if (!ecdsa_verify(pub, digest, sig)) {
            exit(1);
        }
    }
    printf("verify_us %.0f\n", (seconds() - t) * 1e6 / 50);
    printf("device_bytes %zu\n", sizeof(struct coinop_device));
    printf("serial_bytes %zu\n", sizeof(struct coinop_serial));
    printf("mqtt_bytes %zu\n", sizeof(struct coinop_mqtt));
    printf("end\n");
    fflush(stdout);
}

int main(void) {
    static char line[2 * ROOM * 2];
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *name;
        uint8_t out[64];
        struct sha256 s;
        struct num a, b;
        int n = parse(line, &name);
        if (n < 0 || name == NULL) {
            continue;
        }
        if (strcmp(name, "sha256") == 0) {
            sha256_start(&s);
            sha256_add(&s, args[0], sizes[0]);
            sha256_end(&s, out);
            print(out, 32);
        } else if (strcmp(name, "hmac") == 0) {
            hmac_start(&s, args[0]);
            sha256_add(&s, args[1], sizes[1]);
            hmac_end(&s, args[0], out);
            print(out, 32);
        } else if (strcmp(name, "public") == 0) {
            key_public(out, args[0]);
            print(out, 33);
        } else if (strcmp(name, "derive") == 0) {
            args[1][sizes[1]] = 0;
            key_derive(out, args[0], (const char *)args[1], "");
            print(out, 32);
        } else if (strcmp(name, "sign") == 0) {
            ecdsa_sign(out, args[0], args[1]);
            print(out, 64);
        } else if (strcmp(name, "verify") == 0) {
            out[0] = ecdsa_verify(args[0], args[1], args[2]);
            print(out, 1);
        } else if (strcmp(name, "ed25519") == 0) {
            out[0] = ed25519_verify(args[0], args[1], sizes[1], args[2]);
            print(out, 1);
        } else if (strcmp(name, "tooth") == 0) {
            num_write(out, &COMB[number(0) - 1][0]);
            num_write(out + 32, &COMB[number(0) - 1][1]);
            print(out, 64);
        } else if (strcmp(name, "mod") == 0) { /* modulus c a b: a+b, a-b, a*b, 1/a by a modulus 2^256-c */
            struct modulus m = {{{0}}, {0}, 5};
            struct num zero = {{0}}, r;
            num_read(&a, args[0]);
            memcpy(m.c, a.v, sizeof m.c);
            num_sub(&m.m, &zero, &a);
            num_read(&a, args[1]);
            num_read(&b, args[2]);
            if (args[3][0] == '+') {
                mod_add(&r, &a, &b, &m);
            } else if (args[3][0] == '-') {
                mod_sub(&r, &a, &b, &m);
            } else if (args[3][0] == '*') {
                mod_mul(&r, &a, &b, &m);
            } else {
                mod_inverse(&r, &a, &m);
            }
            num_write(out, &r);
            print(out, 32);
        } else if (strcmp(name, "words") == 0) {
            words();
        } else if (strcmp(name, "uint") == 0) { /* reads a varint, writes it again */
            struct reader r = {args[0], sizes[0], false};
            struct writer w = {out, 0, sizeof out};
            put_uint(&w, take_uint(&r, UINT64_MAX));
            print(out, take_end(&r) ? w.n : 0);
        } else if (strcmp(name, "frame") == 0) {
            frame();
        } else if (strcmp(name, "fuzz") == 0) {
            fuzz(false);
        } else if (strcmp(name, "blob") == 0) {
            fuzz(true);
        } else if (strcmp(name, "speed") == 0) {
            speed();
        } else {
            printf("?\n");
            fflush(stdout);
        }
    }
    return 0;
}
