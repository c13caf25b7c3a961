/* The agent's links: a terminal or a socket under coinop's byte machines. */
#define _DEFAULT_SOURCE
#include "link.h"

#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "coinop_mqtt.h"
#include "coinop_serial.h"

static int fd = -1;
static enum { NONE, SERIAL, MQTT } kind;
static struct coinop_serial line;
static struct coinop_mqtt client;
static char host[64], port[8], name[65], password[768] = "secret", up_topic[128], down_topic[128];

static void write_bytes(void *self, const uint8_t *b, size_t n) {
    (void)self;
    while (n > 0) {
        ssize_t k = write(fd, b, n);
        if (k <= 0) {
            return; /* lost; it is sent again */
        }
        b += k;
        n -= (size_t)k;
    }
}

static void message(void *self, const uint8_t *b, size_t n) {
    (void)self;
    link_message(b, n);
}

static void up(void *self) {
    (void)self;
    link_up();
}

static uint32_t draw(void *self) {
    (void)self;
    return (uint32_t)rand();
}

static const struct coinop_serial_port serial_port = {NULL, write_bytes, message, up, draw, "agent"};
static const struct coinop_mqtt_port mqtt_port = {NULL, write_bytes, message, up, name, name, password, up_topic, down_topic, 10};

static void dial(void) {
    struct addrinfo hints = {0}, *found;
    hints.ai_socktype = SOCK_STREAM;
    close(fd);
    fd = -1;
    if (getaddrinfo(host, port, &hints, &found) != 0) {
        exit(5);
    }
    fd = socket(found->ai_family, SOCK_STREAM, 0);
    if (connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    coinop_mqtt_start(&client, &mqtt_port, milliseconds());
}

static void open_terminal(const char *path) {
    struct termios t;
    fd = open(path, O_RDWR | O_NOCTTY);
    if (fd < 0 || tcgetattr(fd, &t) != 0) {
        perror(path);
        exit(5);
    }
    cfmakeraw(&t);
    tcsetattr(fd, TCSANOW, &t);
}

void link_open(const char *uri) {
    srand((unsigned)time(NULL) ^ (unsigned)getpid() << 16);
    if (strncmp(uri, "serial:", 7) == 0) {
        kind = SERIAL;
        open_terminal(uri + 7);
        coinop_serial_start(&line, &serial_port, milliseconds());
    } else if (sscanf(uri, "mqtt:%63[^:]:%7[^:]:%64[^:]:%767s", host, port, name, password) >= 3) {
        kind = MQTT;
        snprintf(up_topic, sizeof up_topic, "coinop/default/%s/event/pay", name);
        snprintf(down_topic, sizeof down_topic, "coinop/default/%s/command/pay", name);
        dial();
    } else {
        exit(5);
    }
}

int link_fd(void) { return fd; }

bool link_send(const uint8_t *b, size_t n) {
    if (kind == SERIAL) {
        coinop_serial_send(&line, b, n);
    } else if (kind == MQTT) {
        coinop_mqtt_send(&client, b, n);
    }
    return kind != NONE;
}

void link_read(void) {
    uint8_t b[512];
    ssize_t n = read(fd, b, sizeof b);
    if (n <= 0 && kind == MQTT) {
        client.dead = true;
        close(fd);
        fd = -1;
    } else if (n > 0 && kind == MQTT) {
        coinop_mqtt_receive(&client, b, (size_t)n);
    } else if (n > 0) {
        coinop_serial_receive(&line, b, (size_t)n);
    }
}

void link_tick(uint32_t now) {
    static uint32_t last;
    if (kind == SERIAL) {
        coinop_serial_tick(&line, now);
    } else if (kind == MQTT && !coinop_mqtt_tick(&client, now) && now - last > 200) {
        last = now;
        dial();
    }
}
