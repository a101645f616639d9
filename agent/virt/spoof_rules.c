#define _GNU_SOURCE

#include "spoof_rules.h"

#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <stdio.h>
#include <string.h>


/* What nft(8) shows of the sets: its numbers for the types of keys. */
#define SPOOF_TYPE_IP     7u
#define SPOOF_TYPE_ETHER  9u
#define SPOOF_TYPE_PORT   41u

/* A port, a MAC and an address in the registers of four bytes each. */
#define SPOOF_PORT        NFT_REG32_00
#define SPOOF_MAC         NFT_REG32_04
#define SPOOF_IP          NFT_REG32_06
#define SPOOF_OTHER       NFT_REG32_07

/* NF_BR_PRE_ROUTING, whose header redefines libc's; before all others there */
#define SPOOF_HOOK        0
#define SPOOF_PRIORITY    (-300)


/* As the kernel compares it, with all padding. */
typedef struct {
    char            port[IFNAMSIZ];
    unsigned char   mac[8];
    struct in_addr  ip;
} spoof_key_t;


/* --- expressions --- */

static size_t
spoof_expression(nft_batch_t *b, const char *name, size_t *data)
{
    size_t  begun = nft_begin(b, NFTA_LIST_ELEM);

    nft_text(b, NFTA_EXPR_NAME, name);
    *data = nft_begin(b, NFTA_EXPR_DATA);

    return begun;
}


static void
spoof_expression_end(nft_batch_t *b, size_t begun, size_t data)
{
    nft_end(b, data);
    nft_end(b, begun);
}


static void
spoof_load(nft_batch_t *b, unsigned base, unsigned offset, unsigned len,
    unsigned to)
{
    size_t  data, begun = spoof_expression(b, "payload", &data);

    nft_number(b, NFTA_PAYLOAD_DREG, to);
    nft_number(b, NFTA_PAYLOAD_BASE, base);
    nft_number(b, NFTA_PAYLOAD_OFFSET, offset);
    nft_number(b, NFTA_PAYLOAD_LEN, len);
    spoof_expression_end(b, begun, data);
}


static void
spoof_load_port(nft_batch_t *b)
{
    size_t  data, begun = spoof_expression(b, "meta", &data);

    nft_number(b, NFTA_META_DREG, SPOOF_PORT);
    nft_number(b, NFTA_META_KEY, NFT_META_IIFNAME);
    spoof_expression_end(b, begun, data);
}


static void
spoof_compare(nft_batch_t *b, unsigned operator, const void *value,
    size_t len)
{
    size_t  data, inner, begun = spoof_expression(b, "cmp", &data);

    nft_number(b, NFTA_CMP_SREG, SPOOF_OTHER);
    nft_number(b, NFTA_CMP_OP, operator);
    inner = nft_begin(b, NFTA_CMP_DATA);
    nft_put(b, NFTA_DATA_VALUE, value, len);
    nft_end(b, inner);
    spoof_expression_end(b, begun, data);
}


static void
spoof_look_up(nft_batch_t *b, const char *set, int is_in)
{
    size_t  data, begun = spoof_expression(b, "lookup", &data);

    nft_text(b, NFTA_LOOKUP_SET, set);
    nft_number(b, NFTA_LOOKUP_SREG, SPOOF_PORT);
    nft_number(b, NFTA_LOOKUP_FLAGS, is_in ? 0 : NFT_LOOKUP_F_INV);
    spoof_expression_end(b, begun, data);
}


static void
spoof_verdict(nft_batch_t *b, int verdict)
{
    size_t  data, value, inner, begun;

    if (verdict == NF_DROP) {
        begun = spoof_expression(b, "counter", &data);
        spoof_expression_end(b, begun, data);
    }

    begun = spoof_expression(b, "immediate", &data);
    nft_number(b, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    value = nft_begin(b, NFTA_IMMEDIATE_DATA);
    inner = nft_begin(b, NFTA_DATA_VERDICT);
    nft_number(b, NFTA_VERDICT_CODE, (uint32_t) verdict);
    nft_end(b, inner);
    nft_end(b, value);
    spoof_expression_end(b, begun, data);
}


/* --- conditions --- */

/* In the frame itself, so that one with a VLAN's tag is none of these. */
static void
spoof_is_type(nft_batch_t *b, uint16_t type)
{
    uint16_t  wire = htons(type);

    spoof_load(b, NFT_PAYLOAD_LL_HEADER, 12, 2, SPOOF_OTHER);
    spoof_compare(b, NFT_CMP_EQ, &wire, sizeof(wire));
}


/* UDP with this port at that offset: 0 from it, 2 to it. */
static void
spoof_is_udp(nft_batch_t *b, unsigned offset, uint16_t port)
{
    uint8_t   udp = IPPROTO_UDP;
    uint16_t  wire = htons(port);

    spoof_load(b, NFT_PAYLOAD_NETWORK_HEADER, 9, 1, SPOOF_OTHER);
    spoof_compare(b, NFT_CMP_EQ, &udp, sizeof(udp));
    spoof_load(b, NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2, SPOOF_OTHER);
    spoof_compare(b, NFT_CMP_EQ, &wire, sizeof(wire));
}


/* Are port, a MAC of the frame and an address of it a guest's? */
static void
spoof_is_guest(nft_batch_t *b, unsigned mac_base, unsigned mac_offset,
    unsigned ip_offset, int is_one)
{
    spoof_load_port(b);
    spoof_load(b, mac_base, mac_offset, 6, SPOOF_MAC);
    spoof_load(b, NFT_PAYLOAD_NETWORK_HEADER, ip_offset, 4, SPOOF_IP);
    spoof_look_up(b, "guests", is_one);
}


/* --- rules --- */

static size_t
spoof_rule(nft_batch_t *b, const char *table)
{
    nft_message(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, table);
    nft_text(b, NFTA_RULE_CHAIN, "guard");

    return nft_begin(b, NFTA_RULE_EXPRESSIONS);
}


static void
spoof_rule_end(nft_batch_t *b, size_t begun, int verdict)
{
    spoof_verdict(b, verdict);
    nft_end(b, begun);
}


/*
 * A guest is no DHCP server, and asks one in its own name alone: with its MAC
 * in the message (offset 28 of it), and from 0.0.0.0 for nothing else.
 */
static void
spoof_rules_dhcp(nft_batch_t *b, const char *table)
{
    size_t          rule;
    struct in_addr  none = { 0 };

    rule = spoof_rule(b, table);
    spoof_is_type(b, ETH_P_IP);
    spoof_is_udp(b, 0, 67);
    spoof_rule_end(b, rule, NF_DROP);

    rule = spoof_rule(b, table);
    spoof_is_type(b, ETH_P_IP);
    spoof_is_udp(b, 2, 67);
    spoof_is_guest(b, NFT_PAYLOAD_TRANSPORT_HEADER, 8 + 28, 12, 0);
    spoof_rule_end(b, rule, NF_DROP);

    rule = spoof_rule(b, table);
    spoof_is_type(b, ETH_P_IP);
    spoof_is_udp(b, 2, 67);
    spoof_is_guest(b, NFT_PAYLOAD_LL_HEADER, 6, 12, 1);
    spoof_rule_end(b, rule, NF_ACCEPT);

    rule = spoof_rule(b, table);
    spoof_is_type(b, ETH_P_IP);
    spoof_load(b, NFT_PAYLOAD_NETWORK_HEADER, 12, 4, SPOOF_OTHER);
    spoof_compare(b, NFT_CMP_EQ, &none, sizeof(none));
    spoof_rule_end(b, rule, NF_DROP);
}


static void
spoof_rules_addresses(nft_batch_t *b, const char *table)
{
    size_t  rule;

    /* Ethernet, IPv4, and so long are their addresses */
    static const unsigned char  arp[] = { 0, 1, 8, 0, 6, 4 };

    rule = spoof_rule(b, table);
    spoof_is_type(b, ETH_P_IP);
    spoof_is_guest(b, NFT_PAYLOAD_LL_HEADER, 6, 12, 1);
    spoof_rule_end(b, rule, NF_ACCEPT);

    /* who sends it, and who is said to: the same */
    rule = spoof_rule(b, table);
    spoof_is_type(b, ETH_P_ARP);
    spoof_load(b, NFT_PAYLOAD_NETWORK_HEADER, 0, 6, NFT_REG32_07);
    spoof_compare(b, NFT_CMP_EQ, arp, sizeof(arp));
    spoof_is_guest(b, NFT_PAYLOAD_LL_HEADER, 6, 14, 1);
    spoof_is_guest(b, NFT_PAYLOAD_NETWORK_HEADER, 8, 14, 1);
    spoof_rule_end(b, rule, NF_ACCEPT);

    rule = spoof_rule(b, table);
    spoof_rule_end(b, rule, NF_DROP);
}


static void
spoof_rules_set(nft_batch_t *b, const char *table, const char *name,
    uint32_t id, uint32_t type, size_t len)
{
    nft_message(b, NFT_MSG_NEWSET, NLM_F_CREATE, table);
    nft_text(b, NFTA_SET_NAME, name);
    nft_number(b, NFTA_SET_KEY_TYPE, type);
    nft_number(b, NFTA_SET_KEY_LEN, (uint32_t) len);
    nft_number(b, NFTA_SET_ID, id);
    nft_number(b, NFTA_SET_FLAGS, 0);
}


void
spoof_rules_drop(nft_batch_t *b, const char *table)
{
    /* so that there is one */
    nft_message(b, NFT_MSG_NEWTABLE, NLM_F_CREATE, table);
    nft_message(b, NFT_MSG_DELTABLE, 0, table);
}


void
spoof_rules_make(nft_batch_t *b, const char *table)
{
    size_t  hook, rule;

    spoof_rules_drop(b, table);
    nft_message(b, NFT_MSG_NEWTABLE, NLM_F_CREATE, table);

    spoof_rules_set(b, table, "ports", 1, SPOOF_TYPE_PORT, IFNAMSIZ);
    spoof_rules_set(b, table, "guests", 2, SPOOF_TYPE_PORT << 12
                                           | SPOOF_TYPE_ETHER << 6
                                           | SPOOF_TYPE_IP,
                    sizeof(spoof_key_t));

    nft_message(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE, table);
    nft_text(b, NFTA_CHAIN_NAME, "guard");
    nft_text(b, NFTA_CHAIN_TYPE, "filter");
    hook = nft_begin(b, NFTA_CHAIN_HOOK);
    nft_number(b, NFTA_HOOK_HOOKNUM, SPOOF_HOOK);
    nft_number(b, NFTA_HOOK_PRIORITY, (uint32_t) SPOOF_PRIORITY);
    nft_end(b, hook);

    rule = spoof_rule(b, table);
    spoof_load_port(b);
    spoof_look_up(b, "ports", 0);
    spoof_rule_end(b, rule, NF_ACCEPT);

    spoof_rules_dhcp(b, table);
    spoof_rules_addresses(b, table);
}


static void
spoof_rules_element(nft_batch_t *b, const void *key, size_t len)
{
    size_t  element = nft_begin(b, NFTA_LIST_ELEM);
    size_t  inner = nft_begin(b, NFTA_SET_ELEM_KEY);

    nft_put(b, NFTA_DATA_VALUE, key, len);
    nft_end(b, inner);
    nft_end(b, element);
}


static size_t
spoof_rules_elements(nft_batch_t *b, const char *table, int comes,
    const char *set)
{
    nft_message(b, comes ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
                comes ? NLM_F_CREATE : 0, table);
    nft_text(b, NFTA_SET_ELEM_LIST_SET, set);

    return nft_begin(b, NFTA_SET_ELEM_LIST_ELEMENTS);
}


void
spoof_rules_guest(nft_batch_t *b, const char *table, int comes,
    const char *port, const char *mac, struct in_addr ip)
{
    size_t             elements;
    spoof_key_t        key;
    struct ether_addr  ether;

    memset(&key, 0, sizeof(key));
    (void) snprintf(key.port, sizeof(key.port), "%s", port);

    if (ether_aton_r(mac, &ether) != NULL) {
        memcpy(key.mac, &ether, sizeof(ether));
    }

    elements = spoof_rules_elements(b, table, comes, "ports");
    spoof_rules_element(b, key.port, sizeof(key.port));
    nft_end(b, elements);

    elements = spoof_rules_elements(b, table, comes, "guests");
    spoof_rules_element(b, &key, sizeof(key));
    key.ip = ip;
    spoof_rules_element(b, &key, sizeof(key));
    nft_end(b, elements);
}
