# Hatch.  `make help` lists the targets.

SHELL       = /bin/bash
VERSION     = 0.1.0

ifeq ($(origin CC),default)
CC          = gcc
endif
BUILD      ?= build
CFLAGS     ?= -O2 -g
HARDENING   = -D_FORTIFY_SOURCE=2 -fstack-protector-strong
WARNINGS    = -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes \
              -Wmissing-prototypes -Wpointer-arith -Wwrite-strings \
              -Wformat=2 -Wvla
LIBS        = libvirt json-c lmdb libmicrohttpd libxml-2.0

PREFIX     ?= /usr
SBINDIR     = $(PREFIX)/sbin
BINDIR      = $(PREFIX)/bin
MODULEDIR   = $(PREFIX)/lib/nginx/modules

CONTRACT    = activity err file guard id state zone zone_writer
LIB         = json route_store route_store_write
AGENT       = api api_vm config http image log main net routes sync table \
              virt vm xml

contract_o  = $(CONTRACT:%=$(BUILD)/obj/contract/hatch_%.o)
lib_o       = $(LIB:%=$(BUILD)/obj/lib/hatch_%.o)
agent_o     = $(AGENT:%=$(BUILD)/obj/agent/%.o)
unit_t      = $(patsubst t/unit/%.c,$(BUILD)/unit/%.t,$(wildcard t/unit/*.c))

CPPFLAGS_   = -std=gnu11 -pthread -Icontract -Ilib -Iagent \
              -DHATCH_VERSION='"$(VERSION)"' $(HARDENING) $(WARNINGS) \
              $(shell pkg-config --cflags $(LIBS) 2>/dev/null)
LDLIBS_     = $(shell pkg-config --libs $(LIBS) 2>/dev/null) -llmdb

.PHONY: all module agent deps image run test test-unit test-module test-agent \
        test-e2e test-asan check bench fuzz install deb clean help build

.DEFAULT_GOAL = all

## all           the module, the agent and hatch-zone (= module + agent)
all: module agent

## module        build/ngx_http_hatch_module.so
module: | deps-build
	@CC=$(CC) util/build-module $(BUILD)

## agent         build/hatch-agent and build/hatch-zone
agent: | deps-build
	@$(MAKE) --no-print-directory build

build: $(BUILD)/hatch-agent $(BUILD)/hatch-zone

$(BUILD)/hatch-agent: $(agent_o) $(lib_o) $(contract_o)
	$(CC) $(CFLAGS) $(LDFLAGS) -pthread -o $@ $^ $(LDLIBS_)

$(BUILD)/hatch-zone: $(BUILD)/obj/contract/hatch_zone_tool.o $(contract_o)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_) $(CFLAGS) -MMD -MP -c -o $@ $<

-include $(wildcard $(BUILD)/obj/*/*.d $(BUILD)/obj/t/unit/*.d)

deps-%:
	@util/deps $*

## deps          install what building and running needs, from Debian
deps: deps-run

## image         the demo guest, in build/image
image: | deps-run
	@util/build-image $(BUILD)/image
