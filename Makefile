# Hatch.  `make help` lists the targets.

SHELL       = /bin/bash
VERSION     = 0.1.0

ifeq ($(origin CC),default)
CC          = gcc
endif
BUILD      ?= build
CFLAGS     ?= -O2 -g
HARDENING   = -D_FORTIFY_SOURCE=2 -fstack-protector-strong
# a packager's compiler may warn of more than ours: WERROR= lets it
WERROR     ?= -Werror
WARNINGS    = -Wall -Wextra $(WERROR) -Wshadow -Wstrict-prototypes \
              -Wmissing-prototypes -Wpointer-arith -Wwrite-strings \
              -Wformat=2 -Wvla
LIBS        = libvirt libvirt-qemu json-c lmdb libmicrohttpd libxml-2.0

PREFIX     ?= /usr
SBINDIR     = $(PREFIX)/sbin
BINDIR      = $(PREFIX)/bin
MODULEDIR   = $(PREFIX)/lib/nginx/modules
SHAREDIR    = $(PREFIX)/share/hatch
MANDIR      = $(PREFIX)/share/man
DOCDIR      = $(PREFIX)/share/doc/hatch
UNITDIR     = $(PREFIX)/lib/systemd/system
SYSUSERSDIR = $(PREFIX)/lib/sysusers.d
TMPFILESDIR = $(PREFIX)/lib/tmpfiles.d

CONTRACT    = activity err file guard id state zone zone_writer
LIB         = json json_number json_text route_index route_store \
              route_store_base route_store_build route_store_index \
              route_store_list route_store_write uri
AGENT       = $(sort $(patsubst agent/%.c,%,$(wildcard agent/*.c \
                                                   agent/*/*.c)))

contract_o  = $(CONTRACT:%=$(BUILD)/obj/contract/hatch_%.o)
lib_o       = $(LIB:%=$(BUILD)/obj/lib/hatch_%.o)
agent_o     = $(AGENT:%=$(BUILD)/obj/agent/%.o)
unit_t      = $(patsubst t/unit/%.c,$(BUILD)/unit/%.t,$(wildcard t/unit/*.c))

CPPFLAGS_   = -std=gnu11 -pthread -Icontract -Ilib -Iagent \
              -DHATCH_VERSION='"$(VERSION)"' $(HARDENING) $(WARNINGS) \
              $(LIBS_CFLAGS)
LDLIBS_     = $(LIBS_LIBS) -llmdb

# asked once, and not before the packages are there
LIBS_CFLAGS = $(eval LIBS_CFLAGS := \
                $$(shell pkg-config --cflags $(LIBS) 2>/dev/null))$(LIBS_CFLAGS)
LIBS_LIBS   = $(eval LIBS_LIBS := \
                $$(shell pkg-config --libs $(LIBS) 2>/dev/null))$(LIBS_LIBS)

.PHONY: all module agent deps image run test test-unit test-module test-agent \
        test-e2e test-host test-in-host test-power test-container \
        test-cloud-init test-nginx test-suite test-all test-asan \
        test-module-asan test-tsan \
        test-valgrind soak bench bench-quick bench-wake check coverage fuzz \
        fuzz-targets fuzz-requests install install-agent install-module deb \
        deb-before dist clean help \
        build-all build-module build-agent build-image build-tests \
        build-fuzzed compiled test-ready container-images

.DEFAULT_GOAL = all

# What a step does is told once, when the first of its files is not up to date;
# V=1 shows the commands instead.
ifeq ($(V),1)
Q           =
step        =
else
Q           = @
step        = $(if $(told_$(1)),,$(eval told_$(1) = 1)$(info ==> building the \
              $(1)))
endif

# Everything is built by one make at a time, with all processors: goals that
# people give only start it, when the packages that it needs are there.  flock
# has a second one wait, started by `make -j all test-ready` or elsewhere.
BUILD_WITH  = mkdir -p $(BUILD) && flock $(BUILD) $(MAKE) \
              --no-print-directory $(if $(filter 1,$(V)),,-s) \
              $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$$(nproc))

## all           the module, the agent and hatch-zone (= module + agent)
all: | deps-build
	+@$(BUILD_WITH) build-all

## module        build/ngx_http_hatch_module.so
module: | deps-build
	+@$(BUILD_WITH) build-module

## agent         build/hatch-agent and build/hatch-zone
agent: | deps-build
	+@$(BUILD_WITH) build-agent

build-all: build-module build-agent

build-agent: $(BUILD)/hatch-agent $(BUILD)/hatch-zone

# all that a compiler sees, for other compilers and flags
compiled:
	+@$(BUILD_WITH) build-all build-tests build-fuzzed

build-fuzzed: $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard t/fuzz/*.c))

# nginx's own make knows what its files depend on
build-module:
	+@CC=$(CC) V=$(V) WERROR=$(WERROR) util/build-module $(BUILD)

build-image: $(BUILD)/image/initrd

$(BUILD)/image/initrd: util/build-image
	$(Q)util/build-image $(BUILD)/image

# what only some kinds of agents have
agent_more  =

$(BUILD)/hatch-agent: $(agent_o) $(lib_o) $(contract_o) $(agent_more)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pthread -o $@ $^ $(LDLIBS_)

$(BUILD)/hatch-zone: $(BUILD)/obj/contract/hatch_zone_tool.o $(contract_o)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^

# the programs that a folder's files are for
for_agent    = agent
for_lib      = $(for_agent)
for_contract = $(for_agent)
for_t        = tests
for_bench    = $(for_t)

$(BUILD)/obj/%.o: %.c Makefile
	$(call step,$(for_$(firstword $(subst /, ,$<))))
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_) $(CFLAGS) -MMD -MP -c -o $@ $<

# objects that only a pattern names would be removed, and made again each time
.SECONDARY:

-include $(wildcard $(BUILD)/obj/*/*.d $(BUILD)/obj/agent/*/*.d \
                    $(BUILD)/obj/t/*/*.d)

# DEPS=no: whoever builds has installed them, and nothing is fetched
deps-%:
	@$(if $(filter no,$(DEPS)),:,util/deps $*)

## deps          install what building and running needs, from Debian
deps: deps-run

## image         the demo guest, in build/image
image: | deps-run
	+@$(BUILD_WITH) build-image

## run           the demo: a VM behind nginx, until Ctrl-C
run: | deps-run
	@util/run --ports
	+@$(BUILD_WITH) build-all build-image
	@exec util/run $(BUILD)

# --- tests: all through prove, one summary each ---

TOOLS       = zone-poke route-poke store-hold first-byte load fill domains \
              relay visible requests
# each test has a world of its own, and mostly waits; JOBS=1 for one at a time.
# Not more than two: some have a gigabyte of guests.
JOBS       ?= $(shell echo $$(($$(nproc) < 2 ? 1 : 2)))
PROVE       = HATCH_BUILD=$(BUILD) PERL5LIB=$(CURDIR)/t/lib \
              prove -j$(JOBS) --exec ''
$(BUILD)/unit/%.t: $(BUILD)/obj/t/unit/%.o $(lib_o) $(contract_o)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pthread -o $@ $^ $(LDLIBS_)

# the agent's own functions, of which main() is none
$(BUILD)/unit/agent.t \
$(BUILD)/unit/pages.t: $(filter-out $(BUILD)/obj/agent/main.o,$(agent_o))

# what runs nginx itself: again with reloads instead of restarts
HUP_T       = $(filter-out t/builds.t t/cache.t t/contract.t t/deploy.t \
              t/dist.t t/example.t t/man.t t/model.t t/reliability.t \
              t/upstream.t t/world.t,\
              $(wildcard t/*.t))

build-tests: $(unit_t) $(TOOLS:%=$(BUILD)/unit/%)

$(BUILD)/unit/zone-poke: $(BUILD)/obj/t/lib/zone_poke.o
$(BUILD)/unit/route-poke: $(BUILD)/obj/t/lib/route_poke.o
$(BUILD)/unit/store-hold: $(BUILD)/obj/t/lib/store_hold.o
$(BUILD)/unit/first-byte: $(BUILD)/obj/bench/first_byte.o
$(BUILD)/unit/load: $(BUILD)/obj/bench/load.o \
                    $(BUILD)/obj/bench/load_crowd.o \
                    $(BUILD)/obj/bench/load_peer.o
$(BUILD)/unit/fill: $(BUILD)/obj/bench/fill.o
$(BUILD)/unit/domains: $(BUILD)/obj/bench/domains.o
$(BUILD)/unit/relay: $(BUILD)/obj/bench/relay.o
$(BUILD)/unit/visible: $(BUILD)/obj/bench/visible.o
$(BUILD)/unit/requests: $(patsubst t/fuzz/%.c,$(BUILD)/obj/t/fuzz/%.o,\
                       $(wildcard t/fuzz/requests*.c))
$(TOOLS:%=$(BUILD)/unit/%): $(lib_o) $(contract_o)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS_)

test-ready: | deps-test
	+@$(BUILD_WITH) build-all build-image build-tests

## test          everything below; what CI runs
test: test-ready deb deb-before container-images
	@$(PROVE) t/host/*.t t/container/*.t t/e2e/*.t t/agent/*.t t/*.t $(unit_t)
	@TEST_NGINX_USE_HUP=1 $(PROVE) $(HUP_T)

## test-unit     C programs: contract, libraries, some of the agent
test-unit: test-ready
	@$(PROVE) $(unit_t)

## test-module   Test::Nginx, then again with reloads instead of restarts
test-module: test-ready
	@$(PROVE) t/*.t
	@TEST_NGINX_USE_HUP=1 $(PROVE) $(HUP_T)

## test-agent    the agent against libvirt's test driver
test-agent: test-ready
	@$(PROVE) t/agent/*.t

## test-e2e      nginx, agent, libvirtd and real guests in a private world
test-e2e: test-ready
	@$(PROVE) t/e2e/*.t

## test-host     the same where Debian's own libvirt and systemd run; the packages
test-host: test-ready deb deb-before
	@$(PROVE) t/host/*.t

## test-in-host  the module's and the agent's tests in such a host, with the
##               packages installed
test-in-host: test-ready deb
	@t/lib/in-host $(BUILD) env HATCH_BUILD=$(BUILD) \
	    PERL5LIB=/srv/hatch/t/lib prove -j$(JOBS) --exec '' \
	    t/*.t t/agent/*.t

POWER_CYCLES ?= 20

## test-power    POWER_CYCLES reboots of a host, and as many power cuts (20)
test-power: test-ready
	@HATCH_REBOOTS=$(POWER_CYCLES) HATCH_CUTS=$(POWER_CYCLES) \
	    $(PROVE) -v t/host/power.t

# hatch:latest and hatch:full from the working tree
container-images: | deps-container
	@mkdir -p $(BUILD) && flock $(BUILD) \
	    util/build-container $(BUILD)/container

## test-container  the container images, with podman, Compose and kube play
test-container: test-ready container-images
	@$(PROVE) t/container/*.t

SOAK_SECONDS ?= 600
SOAK_CLIENTS ?= 8

## soak          guests asleep and awake under traffic, for SOAK_SECONDS (600)
soak: test-ready
	@SOAK_SECONDS=$(SOAK_SECONDS) SOAK_CLIENTS=$(SOAK_CLIENTS) \
	    $(PROVE) -v t/e2e/soak.t

## bench         Hatch beside nginx itself and its peers; 20 minutes
bench: test-ready | deps-bench
	@HATCH_BUILD=$(BUILD) PERL5LIB=$(CURDIR)/t/lib bench/run \
	    --json=$(BUILD)/bench.json | tee $(BUILD)/bench.txt

## bench-quick   the same in three minutes, for daily use
bench-quick: test-ready | deps-bench
	@HATCH_BUILD=$(BUILD) PERL5LIB=$(CURDIR)/t/lib bench/run --quick

## bench-wake    waking, each beside the bare libvirt calls
bench-wake: test-ready
	@HATCH_BUILD=$(BUILD) PERL5LIB=$(CURDIR)/t/lib bench/wake

## test-cloud-init  a Debian guest with cloud-init and SSH; takes minutes
test-cloud-init: test-ready | deps-cloud
	@util/build-cloud-image $(BUILD)/cloud
	@$(PROVE) -v t/cloud/*.t

# --- other nginx, each in build-nginx-NAME (util/build-nginx) ---

NGINX      ?= 1.26
# nginx itself would look for sockets there
unexport NGINX
NGINX_FULL  = 1.26 unstable
NGINX_SMOKE = static debug clang

# What a compiler or a flag may break: configuration, each kind of location,
# the store, a wake, a reload and a binary upgrade.
SMOKE_T     = t/config.t t/healthz.t t/readyz.t t/metrics.t t/proxy.t \
              t/route_create.t t/route_list.t t/e2e/http2.t t/e2e/reload.t \
              t/e2e/wake.t

# run.t is the demo, with the machine's nginx
NGINX_T     = $(HUP_T) t/example.t \
              $(filter-out t/e2e/run.t t/e2e/soak.t,$(wildcard t/e2e/*.t))

nginx-%: test-ready | deps-nginx
	+@util/build-nginx $* build-nginx-$*
	@ln -sfn $(abspath $(addprefix $(BUILD)/,unit image hatch-agent \
	    hatch-zone)) build-nginx-$*/

PROVE_WITH  = HATCH_BUILD=build-nginx-$(1) PERL5LIB=$(CURDIR)/t/lib \
              TEST_NGINX_BINARY=$(CURDIR)/build-nginx-$(1)/$(2) \
              prove -j$(JOBS) --exec ''

## test-nginx    NGINX=1.26 or unstable: the tests that run nginx, with that
##               one; NGINX=static, debug or clang: some of them
test-nginx: nginx-$(NGINX)
ifneq ($(filter $(NGINX),$(NGINX_SMOKE)),)
	@$(if $(filter debug,$(NGINX)),TEST_NGINX_LOG_LEVEL=debug) \
	    $(call PROVE_WITH,$(NGINX),sbin/nginx) $(SMOKE_T)
else
	@$(call PROVE_WITH,$(NGINX),sbin/nginx) $(NGINX_T)
	@TEST_NGINX_USE_HUP=1 $(call PROVE_WITH,$(NGINX),sbin/nginx) $(HUP_T)
endif

# --- other releases of Debian, each in build-suite-NAME (util/suite) ---

SUITE      ?= trixie
SUITES      = trixie sid

## test-suite    SUITE=trixie or sid: this tree built and tested in that
##               release of Debian, with its compilers, nginx, libvirt and
##               libraries; all but test-host
test-suite: | deps-suite
	@util/suite --online $(SUITE) build-suite-$(SUITE) \
	    make --no-print-directory all test-ready
	@util/suite $(SUITE) build-suite-$(SUITE) \
	    make --no-print-directory BUILD=build-clang CC=clang compiled
	@util/suite $(SUITE) build-suite-$(SUITE) \
	    make --no-print-directory -k $(SUITE_GOALS)

SUITE_GOALS ?= test-unit test-agent test-module test-e2e

## test-all      test, then test-nginx and test-suite with each of them; hours
test-all:
	+@bad=; $(MAKE) --no-print-directory test || bad=1.22; \
	for nginx in $(NGINX_FULL) $(NGINX_SMOKE); do \
	    echo "==> testing with nginx, $$nginx"; \
	    $(MAKE) --no-print-directory test-nginx NGINX=$$nginx || \
	        bad="$$bad $$nginx"; \
	done; \
	if [ "$$bad" ]; then echo "test-all: failed with $$bad" >&2; exit 1; fi

# nginx under something that watches it: what that finds after a test's last
# look into the log counts, too.  t/bare first shows that what it is told to
# leave out comes of nginx without the module, too.
watched-%: nginx-%-bare nginx-%
	@for dir in build-nginx-$* build-nginx-$*-bare; do \
	    printf '#!/bin/sh\nexec %s %s %s "$$@"\n' \
	        $(CURDIR)/t/lib/watched-nginx $* $(CURDIR)/$$dir/sbin/nginx \
	        > $$dir/watched && chmod 755 $$dir/watched || exit 1; \
	done

## test-module-asan  the module's tests in an nginx with sanitizers, which see
##               each allocation from a pool
test-module-asan: watched-asan
	@WATCHED=asan $(call PROVE_WITH,asan-bare,watched) t/bare/*.t
	@$(call PROVE_WITH,asan,watched) $(HUP_T)
	@TEST_NGINX_USE_HUP=1 $(call PROVE_WITH,asan,watched) $(HUP_T)

## test-valgrind the same under valgrind
test-valgrind: watched-valgrind
	@WATCHED=valgrind $(call PROVE_WITH,valgrind-bare,watched) t/bare/*.t
	@TEST_NGINX_TIMEOUT=30 $(call PROVE_WITH,valgrind,watched) $(HUP_T)

## clean         removes build folders
clean:
	rm -rf build build-*

## help          this list
help:
	@sed -n 's/^## //p' Makefile

# --- quality, installation ---

C_FILES     = $(wildcard agent/*.[ch] agent/*/*.[ch] contract/*.[ch] lib/*.[ch] \
                         ngx_hatch_module/*/*.[ch] t/unit/*.[ch] t/lib/*.c \
                         t/fuzz/*.[ch] \
                         bench/*.c)
SCRIPTS     = deploy/image/hatch-start deploy/nginx/site docs/model/check \
              util/apt-suite util/build-cloud-image util/build-container \
              util/build-deb util/build-image util/build-module \
              util/build-nginx util/deps util/dist \
              util/fetch-kubernetes util/fetch-nginx util/fetch-test-nginx \
              util/suite util/run util/run-firewall util/run-inside \
              t/lib/cgroups t/lib/host t/lib/in-host t/lib/traces t/lib/watched-nginx \
              t/lib/world .ci/run
# with a sanitizer the compiler sees fewer paths, and warns where there is none
SANITIZE    = -O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer \
              -Wno-maybe-uninitialized
SANITIZE_TSAN = -O1 -g -fsanitize=thread -fno-omit-frame-pointer \
              -Wno-maybe-uninitialized -Wno-tsan

## check         style, static analysis, and the model of the sleep handshake
check: | deps-check
	@util/check-style $(C_FILES)
	@for f in $(SCRIPTS); do bash -n $$f || exit 1; done
	@cppcheck -q --enable=warning,portability,performance --inline-suppr \
	    --error-exitcode=1 -Icontract -Ilib -Iagent \
	    --suppress=missingIncludeSystem --suppress=varFuncNullUB \
	    contract lib agent t/unit t/lib t/fuzz
	+@$(MAKE) --no-print-directory BUILD=build-clang CC=clang compiled
	@util/check-floors build-clang
	@docs/model/check
	@echo "check: clean"

# The one list of what is installed: `make install` and the packages (debian/rules)
# take it from here.  Texts get the places of this installation; what belongs to
# the administrator is never replaced, but in a package, where dpkg asks.
place       = install -D -m $(1) $(2) $(DESTDIR)$(3)
place_text  = mkdir -p $(dir $(DESTDIR)$(2)) && \
              sed -e 's,/usr/sbin/hatch-,$(SBINDIR)/hatch-,g' \
                  -e 's,/usr/share/hatch/,$(SHAREDIR)/,g' \
                  -e 's,^load_module modules/,load_module $(MODULEDIR)/,' \
                  -e 's,"Hatch VERSION","Hatch $(VERSION)",' \
                  $(1) > $(DESTDIR)$(2) && chmod 644 $(DESTDIR)$(2)
place_conf  = [ -e $(DESTDIR)$(2) ] || { $(call place_text,$(1),$(2)); }

install-agent:
	$(call place,755,$(BUILD)/hatch-agent,$(SBINDIR)/hatch-agent)
	$(call place,755,$(BUILD)/hatch-zone,$(BINDIR)/hatch-zone)
	$(call place_conf,deploy/agent.json,/etc/hatch/agent.json)
	$(call place_text,deploy/systemd/hatch-agent.service,$(UNITDIR)/hatch-agent.service)
	$(call place_text,deploy/systemd/hatch-guests.service,$(UNITDIR)/hatch-guests.service)
	$(call place,644,deploy/systemd/hatch.sysusers,$(SYSUSERSDIR)/hatch-agent.conf)
	$(call place,644,deploy/systemd/hatch-agent.tmpfiles,$(TMPFILESDIR)/hatch-agent.conf)
	$(call place_text,docs/man/hatch-agent.8,$(MANDIR)/man8/hatch-agent.8)
	$(call place_text,docs/man/hatch-zone.1,$(MANDIR)/man1/hatch-zone.1)
	mkdir -p $(DESTDIR)$(MANDIR)/man5
	docs/man/from-markdown docs/agent.md | \
	    sed 's,"Hatch VERSION","Hatch $(VERSION)",' \
	    > $(DESTDIR)$(MANDIR)/man5/hatch-agent.json.5
	chmod 644 $(DESTDIR)$(MANDIR)/man5/hatch-agent.json.5
	$(call place,644,deploy/systemd/memory-images.conf,$(DOCDIR)/memory-images.conf)

install-module:
	$(call place,644,$(BUILD)/ngx_http_hatch_module.so,$(MODULEDIR)/ngx_http_hatch_module.so)
	$(call place_text,deploy/nginx/hatch_proxy.conf,$(SHAREDIR)/hatch_proxy.conf)
	$(call place_conf,<(deploy/nginx/site nginx.conf.example),/etc/nginx/sites-available/hatch)
	$(call place_text,deploy/systemd/nginx-hatch.conf,$(UNITDIR)/nginx.service.d/hatch.conf)
	$(call place,644,deploy/systemd/hatch-module.tmpfiles,$(TMPFILESDIR)/libnginx-mod-http-hatch.conf)
	$(call place_text,nginx.conf.example,$(DOCDIR)/nginx.conf.example)
	$(call place,644,deploy/prometheus/hatch.rules.yml,$(DOCDIR)/prometheus/hatch.rules.yml)
	$(call place,644,deploy/prometheus/prometheus.yml,$(DOCDIR)/prometheus/prometheus.yml)
	$(call place,644,deploy/grafana/hatch.json,$(DOCDIR)/grafana/hatch.json)

## install       to $(DESTDIR)$(PREFIX); nothing is started
install: all
	@$(MAKE) --no-print-directory install-agent install-module

## deb           packages for this Debian, in build/deb, with the files of the
##               working tree
deb: | deps-deb
	@util/build-deb $(BUILD)/deb $(VERSION)

# a version before, for tests of the upgrade
deb-before: | deps-deb
	@util/build-deb --before $(BUILD)/deb/before 0.0.9~before

## dist          hatch-VERSION.tar.xz in build, the same bytes each time: what is
##               committed, or without git what is there
dist:
	@mkdir -p $(BUILD)
	@util/dist $(BUILD)/hatch-$(VERSION).tar.xz

# nginx itself has no sanitizer: the wrapper loads the runtime before it.
ASAN_E2E    = $(filter-out t/e2e/run.t t/e2e/truth.t,$(wildcard t/e2e/*.t))

## test-asan     the tests with address and undefined-behaviour sanitizers
test-asan: | deps-test
	+@$(BUILD_WITH) build-image
	+@$(MAKE) --no-print-directory BUILD=build-asan CFLAGS="$(SANITIZE)" \
	    LDFLAGS="-fsanitize=address,undefined" HARDENING= compiled
	@mkdir -p build-asan/image && cp $(BUILD)/image/vmlinuz \
	    $(BUILD)/image/initrd build-asan/image/
	@printf '#!/bin/sh\nexport LD_PRELOAD="%s" ASAN_OPTIONS=%s\nexec %s "$$@"\n' \
	    "$$(gcc -print-file-name=libasan.so)" detect_leaks=0 \
	    "$$(PATH=$$PATH:/usr/sbin command -v nginx)" > build-asan/nginx.sh
	@chmod 755 build-asan/nginx.sh
	@HATCH_BUILD=build-asan PERL5LIB=$(CURDIR)/t/lib \
	    LSAN_OPTIONS=suppressions=$(CURDIR)/t/lib/agent.lsan \
	    TEST_NGINX_BINARY=$(CURDIR)/build-asan/nginx.sh \
	    prove --exec '' $(patsubst build/%,build-asan/%,$(unit_t)) \
	    $(filter-out t/model.t,$(wildcard t/*.t)) t/agent/*.t $(ASAN_E2E)

# What the agent's threads do to each other: the rest is as it always is.
TSAN_T      = $(wildcard t/agent/*.t) \
              $(addprefix t/e2e/,idle.t wake.t snapshot.t restarts.t random.t)

## test-tsan     the agent's tests with ThreadSanitizer
test-tsan: test-ready
	+@mkdir -p build-tsan && flock build-tsan $(MAKE) -s \
	    --no-print-directory BUILD=build-tsan CFLAGS="$(SANITIZE_TSAN)" \
	    LDFLAGS=-fsanitize=thread HARDENING= build-tsan/hatch-agent
	@ln -sfn $(abspath $(addprefix $(BUILD)/,unit image hatch-zone \
	    ngx_http_hatch_module.so)) build-tsan/
	@TSAN_OPTIONS=suppressions=$(CURDIR)/t/lib/agent.tsan:$(TSAN_MORE) \
	    HATCH_BUILD=build-tsan PERL5LIB=$(CURDIR)/t/lib \
	    prove -j$(JOBS) --exec '' $(TSAN_T)

TSAN_MORE   = history_size=7:second_deadlock_stack=1

# Those that have an agent do things; the others look at nginx.
COVERAGE_T  = $(wildcard t/agent/*.t) $(patsubst %,t/e2e/%.t,address behind \
              boot clock crash edges figures forced guest hung idle idle_open \
              kept memory orphan outage permissions random restarts \
              routes_kill snapshot walk wake wake_fail wake_peer)

## coverage      which lines of agent, contract and lib their tests execute
coverage: test-ready
	+@mkdir -p build-coverage && flock build-coverage $(MAKE) -s -j$$(nproc) \
	    --no-print-directory BUILD=build-coverage HARDENING= \
	    CFLAGS="-O0 -g --coverage -fprofile-update=atomic" \
	    LDFLAGS=--coverage agent_more=build-coverage/obj/t/lib/coverage.o \
	    build-agent $(patsubst $(BUILD)/%,build-coverage/%,$(unit_t))
	@ln -sfn $(abspath $(addprefix $(BUILD)/,image \
	    ngx_http_hatch_module.so)) build-coverage/
	@for tool in $(TOOLS); do \
	    ln -sfn $(abspath $(BUILD))/unit/$$tool build-coverage/unit/; done
	@find build-coverage -name '*.gcda' -delete
	@HATCH_BUILD=build-coverage PERL5LIB=$(CURDIR)/t/lib \
	    prove -j$(JOBS) --exec '' \
	    $(patsubst $(BUILD)/%,build-coverage/%,$(unit_t)) $(COVERAGE_T) || \
	    echo "coverage: a test failed, see above" >&2
	@t/lib/coverage build-coverage

FUZZ_SECONDS ?= 30
FUZZ_TARGETS = $(sort $(filter-out kit requests%,\
                       $(patsubst t/fuzz/%.c,%,$(wildcard t/fuzz/*.c))))
FUZZ_FLAGS  = -O1 -g -fsanitize=fuzzer-no-link,address,undefined \
              -fno-sanitize-recover=undefined

# A target may be compiled with a file of the agent: the archive's is then
# not taken.
fuzz_o      = $(filter-out $(BUILD)/obj/agent/main.o,$(agent_o)) $(lib_o) \
              $(contract_o) $(BUILD)/obj/t/fuzz/kit.o

$(BUILD)/libhatch.a: $(fuzz_o)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/fuzz/%: $(BUILD)/obj/t/fuzz/%.o $(BUILD)/libhatch.a
	@mkdir -p $(@D)
	$(Q)$(CC) -fsanitize=fuzzer,address,undefined -pthread -o $@ $^ \
	    $(LDLIBS_)

## fuzz          libFuzzer on all that reads bytes of others, then
##               fuzz-requests; FUZZ_SECONDS (30) each.  FUZZ_TARGETS=zone for
##               one
fuzz: fuzz-targets
ifeq ($(origin FUZZ_TARGETS),file)
	+@$(MAKE) --no-print-directory FUZZ_SECONDS=$(FUZZ_SECONDS) fuzz-requests
endif

fuzz-targets: | deps-test
	+@mkdir -p build-fuzz && flock build-fuzz $(MAKE) -s -j$$(nproc) \
	    --no-print-directory BUILD=build-fuzz CC=clang HARDENING= \
	    CFLAGS="$(FUZZ_FLAGS)" $(FUZZ_TARGETS:%=build-fuzz/fuzz/%)
	@for f in $(FUZZ_TARGETS); do \
	    t/fuzz/run $$f $(FUZZ_SECONDS) || exit 1; \
	done

FUZZ_EXECUTIONS ?= 10000000
fuzz-requests: FUZZ_SECONDS = 3600

## fuzz-requests random requests at an nginx with sanitizers, until there were
##               FUZZ_EXECUTIONS (10 million) or FUZZ_SECONDS (an hour) are over
fuzz-requests: watched-asan
	@FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_EXECUTIONS=$(FUZZ_EXECUTIONS) \
	    $(call PROVE_WITH,asan,watched) -v t/fuzz/requests.t
