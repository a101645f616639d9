#define _GNU_SOURCE

#include "net_known.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <json-c/json.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>


#define NET_HOST_SIZE  (VM_MAC_SIZE + INET_ADDRSTRLEN)


static struct {
    pthread_mutex_t  lock;
    unsigned         stamp;         /* changes with what may have changed */
    unsigned         of;            /* the stamp of what is known */
    json_object     *hosts;         /* "MAC ADDRESS"; NULL: not known */
    char             bridge[16];
    struct in_addr   gateway;
} known = { .lock = PTHREAD_MUTEX_INITIALIZER };


static void
net_known_key(const char *mac, struct in_addr ip, char key[NET_HOST_SIZE])
{
    char  *p, text[INET_ADDRSTRLEN];

    (void) inet_ntop(AF_INET, &ip, text, sizeof(text));
    (void) snprintf(key, NET_HOST_SIZE, "%s %s", mac, text);

    for (p = key; *p != '\0'; p++) {
        *p = (char) tolower((unsigned char) *p);
    }
}


unsigned
net_known_stamp(void)
{
    return __atomic_load_n(&known.stamp, __ATOMIC_SEQ_CST);
}


void
net_known_forget(void)
{
    (void) __atomic_add_fetch(&known.stamp, 1, __ATOMIC_SEQ_CST);
}


void
net_known_set(const xml_network_t *network, unsigned stamp)
{
    char          key[NET_HOST_SIZE];
    unsigned      i;
    json_object  *hosts = json_object_new_object();

    for (i = 0; i < network->hosts; i++) {
        net_known_key(network->host[i].mac, network->host[i].ip, key);
        (void) json_object_object_add(hosts, key, NULL);
    }

    pthread_mutex_lock(&known.lock);
    json_object_put(known.hosts);
    known.hosts = hosts;
    known.of = stamp;
    memcpy(known.bridge, network->bridge, sizeof(known.bridge));
    known.gateway = network->gateway;
    pthread_mutex_unlock(&known.lock);
}


void
net_known_host(const char *mac, struct in_addr ip, int there)
{
    char  key[NET_HOST_SIZE];

    net_known_key(mac, ip, key);

    pthread_mutex_lock(&known.lock);

    if (there && known.hosts != NULL) {
        (void) json_object_object_add(known.hosts, key, NULL);

    } else if (known.hosts != NULL) {
        json_object_object_del(known.hosts, key);
    }

    /* who is just reading the network may not have seen it */
    known.of += known.of == net_known_stamp();
    net_known_forget();

    pthread_mutex_unlock(&known.lock);
}


int
net_known_has(const char *mac, struct in_addr ip)
{
    int   has;
    char  key[NET_HOST_SIZE];

    net_known_key(mac, ip, key);

    pthread_mutex_lock(&known.lock);
    has = known.hosts != NULL && known.of == net_known_stamp()
          && json_object_object_get_ex(known.hosts, key, NULL);
    pthread_mutex_unlock(&known.lock);

    return has;
}


void
net_known_place(char bridge[16], struct in_addr *gateway)
{
    pthread_mutex_lock(&known.lock);
    memcpy(bridge, known.bridge, sizeof(known.bridge));
    *gateway = known.gateway;
    pthread_mutex_unlock(&known.lock);
}
