/* A device's end of MQTT 3.1.1: one topic to publish to, one to listen to. What
 * a device says it says again until it is answered, so QoS 0 is enough; what
 * comes with QoS 1 is acknowledged. At coinop's gateway the topics are
 * coinop/TENANT/DEVICE/event/pay and coinop/TENANT/DEVICE/command/pay. */
#ifndef COINOP_MQTT_H
#define COINOP_MQTT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef COINOP_MQTT_MAX
#define COINOP_MQTT_MAX 1024 /* bytes in a packet, either way; longer ones are skipped */
#endif

struct coinop_mqtt_port {
    void *self;
    void (*write)(void *self, const uint8_t *bytes, size_t size);     /* to the connection */
    void (*message)(void *self, const uint8_t *message, size_t size); /* one came */
    void (*up)(void *self);                                           /* the broker listens */
    const char *client, *user, *password, *publish, *subscribe;
    uint16_t keepalive; /* seconds */
};

struct coinop_mqtt {
    const struct coinop_mqtt_port *port;
    bool up, dead;
    uint32_t now, heard, wrote;
    uint8_t packet[COINOP_MQTT_MAX];
    size_t have; /* bytes of the packet that is coming in */
    size_t skip; /* bytes still to come of one that is too long */
};

void coinop_mqtt_start(struct coinop_mqtt *m, const struct coinop_mqtt_port *port, uint32_t now); /* once connected */
bool coinop_mqtt_send(struct coinop_mqtt *m, const uint8_t *message, size_t size);                /* false: not up, or too long */
void coinop_mqtt_receive(struct coinop_mqtt *m, const uint8_t *bytes, size_t size);

/* coinop_mqtt_tick tells the time in milliseconds, once a second or more. False:
 * the connection is dead; make a new one and start again. */
bool coinop_mqtt_tick(struct coinop_mqtt *m, uint32_t now);

#endif
