/* A pump that pays for the water it takes, a coin a litre, over MQTT. It runs while
 * what it has drawn is paid for; when the gateway is away it goes on for as long as
 * the channel's credit lasts, and then it waits. */
#include "board.h"
#include "coinop.h"
#include "coinop_mqtt.h"

enum { SLOTS = 64, KEEPALIVE = 60 /* s */ };

static struct coinop_device device;
static struct coinop_mqtt client;
static const uint8_t session[COINOP_ID] = "water, this pump";

/* The port: five functions. */
static void send(void *self, const uint8_t *b, size_t n) { coinop_mqtt_send(self, b, n); }
static bool read(void *self, uint32_t slot, uint8_t *b) { return (void)self, board_flash_read(slot, b, COINOP_SLOT); }
static bool write(void *self, uint32_t slot, const uint8_t *b) { return (void)self, board_flash_write(slot, b, COINOP_SLOT); }
static void tell(void *self, enum coinop_news news, const uint8_t *id) { (void)self, (void)news, (void)id; }

static enum coinop_result act(void *self, const struct coinop_command *c, struct coinop_outcome *o) {
    (void)self, (void)c, (void)o;
    return COINOP_FAILED; /* nobody commands a pump */
}

static const struct coinop_port port = {&client, send, read, write, SLOTS, tell, act, "meter 1.0"};

/* The client's. */
static void put(void *self, const uint8_t *b, size_t n) { (void)self, board_write(b, n); }
static void got(void *self, const uint8_t *b, size_t n) { coinop_receive(self, b, n); }
static void up(void *self) { coinop_linked(self); }

static const struct coinop_mqtt_port client_port = {
    &device, put, got, up, "pump-3", "pump-3", "its credential",
    "coinop/default/pump-3/event/pay", "coinop/default/pump-3/command/pay", KEEPALIVE,
};

int main(void) {
    uint32_t paid = board_litres();
    if (!coinop_start(&device, &port, board_key, board_blob, board_blob_size)) {
        return 1;
    }
    board_connect();
    coinop_mqtt_start(&client, &client_port, board_milliseconds());
    for (;;) {
        uint8_t b[256];
        uint32_t drawn;
        coinop_mqtt_receive(&client, b, board_read(b, sizeof b));
        if (!coinop_mqtt_tick(&client, board_milliseconds())) {
            board_connect();
            coinop_mqtt_start(&client, &client_port, board_milliseconds());
        }
        coinop_tick(&device, board_milliseconds());
        drawn = board_litres() - paid;
        if (drawn > 0 && coinop_meter(&device, session, drawn) == COINOP_PROMISED) {
            paid += drawn;
        }
        board_valve(board_litres() == paid);
    }
}
