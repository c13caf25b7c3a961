/* A vending machine on a serial line. It knows nothing of money: the gateway sells,
 * and tells it what to let fall. What fell, or did not, it signs. */
#include <string.h>

#include "board.h"
#include "coinop.h"
#include "coinop_serial.h"

enum { SLOTS = 16, FALL_WITHIN = 3000 /* ms */ };

static struct coinop_device device;
static struct coinop_serial line;
static uint32_t begun; /* when the motor turned */
static bool falling;

/* The port: five functions. */
static void send(void *self, const uint8_t *b, size_t n) { coinop_serial_send(self, b, n); }
static bool read(void *self, uint32_t slot, uint8_t *b) { return (void)self, board_flash_read(slot, b, COINOP_SLOT); }
static bool write(void *self, uint32_t slot, const uint8_t *b) { return (void)self, board_flash_write(slot, b, COINOP_SLOT); }
static void tell(void *self, enum coinop_news news, const uint8_t *id) { (void)self, (void)news, (void)id; }

static enum coinop_result act(void *self, const struct coinop_command *c, struct coinop_outcome *o) {
    (void)self;
    if (strcmp(c->verb, "open") != 0 || c->units != 1 || c->item[0] < 'a' || c->item[0] > 'h') {
        memcpy(o->why, "no such spiral", sizeof "no such spiral");
        return COINOP_FAILED;
    }
    board_motor((unsigned)(c->item[0] - 'a'));
    begun = board_milliseconds();
    falling = true;
    return COINOP_ACTING; /* and the loop says how it went */
}

static const struct coinop_port port = {&line, send, read, write, SLOTS, tell, act, "vending 1.0"};

/* The line's. */
static void put(void *self, const uint8_t *b, size_t n) { (void)self, board_write(b, n); }
static void got(void *self, const uint8_t *b, size_t n) { coinop_receive(self, b, n); }
static void up(void *self) { coinop_linked(self); }
static uint32_t draw(void *self) { return (void)self, board_random(); }

static const struct coinop_serial_port line_port = {&device, put, got, up, draw, "vending"};

int main(void) {
    if (!coinop_start(&device, &port, board_key, board_blob, board_blob_size)) {
        return 1;
    }
    coinop_serial_start(&line, &line_port, board_milliseconds());
    for (;;) {
        static const struct coinop_outcome fell, jammed = {"nothing fell", {0}, 0};
        uint8_t b[64];
        coinop_serial_receive(&line, b, board_read(b, sizeof b));
        coinop_serial_tick(&line, board_milliseconds());
        coinop_tick(&device, board_milliseconds());
        if (board_unix_ms() != 0) {
            coinop_clock(&device, board_unix_ms());
        }
        if (falling && board_dropped()) {
            falling = false;
            coinop_acted(&device, COINOP_ACTED, &fell);
        } else if (falling && board_milliseconds() - begun > FALL_WITHIN) {
            falling = false;
            coinop_acted(&device, COINOP_FAILED, &jammed);
        }
    }
}
