/*
 * The agent's configuration.
 *
 * Sources, each overriding the one before: the defaults, the JSON file
 * (/etc/hatch/agent.json, or --config), the environment (HATCH_ and the key
 * in upper case), the command line.  A value that breaks a rule is an error
 * that names where it came from, the key, the value and the rule; nothing
 * falls back silently.  deploy/agent.json lists every key with its default.
 */

#ifndef HATCH_AGENT_CONFIG_H_INCLUDED
#define HATCH_AGENT_CONFIG_H_INCLUDED

#include <stdint.h>
#include <sys/types.h>

#include "hatch_err.h"


#define CONFIG_FILE  "/etc/hatch/agent.json"
#define CONFIG_TEXT  256

/* Debian's nginx: user and group; and the group of those who run Hatch. */
#define CONFIG_NGINX  "www-data"
#define CONFIG_GROUP  "hatch"

#define CONFIG_DURATION_MIN  100                    /* ms */
#define CONFIG_DURATION_MAX  (366 * INT64_C(86400000))
#define CONFIG_DISK_MAX      (16 * 1024 * 1024)     /* MiB */


/*
 * Read whole and without a lock by any thread.  Who needs one value twice
 * copies it first.
 */
typedef _Atomic int64_t  config_number_t;

typedef struct config_s  config_t;

struct config_s {
    /*
     * Paths and names, NUL-terminated, which stay as they are; but of default_*
     * see config_image(), and log_level belongs to the main thread.
     */
    char     connect[CONFIG_TEXT];              /* libvirt URI */
    char     zone[CONFIG_TEXT];
    char     socket[CONFIG_TEXT];               /* REST API */
    char     wake_socket[CONFIG_TEXT];          /* nginx's */
    char     state_dir[CONFIG_TEXT];
    char     image_dir[CONFIG_TEXT];
    char     route_store[CONFIG_TEXT];
    char     group[CONFIG_TEXT];                /* nginx workers' group */
    char     socket_group[CONFIG_TEXT];         /* of both sockets */
    char     virt_type[CONFIG_TEXT];            /* auto, kvm, qemu */
    char     network_name[CONFIG_TEXT];
    char     bridge_name[CONFIG_TEXT];
    char     bridge_cidr[CONFIG_TEXT];          /* gateway/prefix */
    char     default_kernel_path[CONFIG_TEXT];  /* image img_default */
    char     default_initrd_path[CONFIG_TEXT];
    char     default_rootfs_path[CONFIG_TEXT];
    char     default_boot_args[CONFIG_TEXT];
    char     log_level[CONFIG_TEXT];
    char     memory[CONFIG_TEXT];               /* auto, image, classic */

    /* numbers: config_reload() may change them at any time */
    config_number_t  zone_vms;                  /* slots, 1..1048576 */
    config_number_t  default_vcpu;
    config_number_t  default_mem_mib;
    config_number_t  resync_interval;           /* seconds */
    config_number_t  stop_timeout;              /* seconds */
    config_number_t  libvirt_timeout;           /* seconds, for one call */
    config_number_t  save_timeout;              /* the same, of memory */
    config_number_t  save_all_timeout;          /* seconds, of each VM */
    config_number_t  max_starts;                /* and restores, at once */

    config_number_t  max_vms;                   /* 0: no limit */
    config_number_t  max_vcpus;                 /* of all VMs, 0: none */
    config_number_t  max_mem_mib;               /* the same */
    config_number_t  max_disk_mib;              /* the same */
    config_number_t  max_overlay_size_mib;      /* one VM's disk */
    config_number_t  max_snapshots_per_vm;      /* 0: no limit */
    config_number_t  host_memory_reserve_mib;   /* never given to VMs */

    config_number_t  spoof_protection;          /* 1: on */
    config_number_t  guest_isolation;           /* the same */

    config_number_t  stats_interval;            /* ms, or never: -1 */
    config_number_t  idle_timeout;              /* the same */
    config_number_t  park_after;                /* the same */
    config_number_t  save_after;                /* the same */

    config_number_t  libvirt_timeout_set;       /* it is not the default */
    config_number_t  save_timeout_set;          /* the same */

    const config_t *_Atomic  image;             /* see config_image() */
    const config_t  *before;                    /* another one's image */

    gid_t    gid;                               /* of group, or -1 */
    gid_t    socket_gid;                        /* the same */
    char     file[CONFIG_TEXT];                 /* that was read, or "" */
    int      check;                             /* --check */
    int      adopt;                             /* --adopt */
    int      save_all;                          /* --save-all */
};


/*
 * Fills config from all sources.  Returns 0; 1 if --help or --version was
 * answered (exit with 0); or a negative code with err filled.
 */
int config_load(config_t *config, int argc, char **argv, hatch_err_t *err);

/*
 * The configuration whose default_kernel_path, _initrd_path, _rootfs_path and
 * _boot_args count now, all four of one time.  It is never freed.
 */
const config_t *config_image(const config_t *config);

/*
 * Told of a key whose value is another one than before.  `live`: it counts from
 * now on; otherwise it needs a restart.  Values as text, for a log.
 */
typedef void (*config_told_t)(const char *key, int live, const char *before,
    const char *now);

/*
 * Reads all sources again and takes over what can be changed while the agent
 * runs.  A source that breaks a rule changes nothing, and err says which.  In
 * the main thread alone.
 */
int config_reload(config_t *config, int argc, char **argv,
    config_told_t told, hatch_err_t *err);

/* Is that user in that group?  The main thread. */
int config_has_member(const char *name, const char *user);

/* The rules that a length or a range cannot say; finds the group. */
int config_check(config_t *config, hatch_err_t *err);

#endif /* HATCH_AGENT_CONFIG_H_INCLUDED */
