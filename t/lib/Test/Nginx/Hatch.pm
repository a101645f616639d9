package Test::Nginx::Hatch;

# Test::Nginx for this module: use it before Test::Nginx::Socket.
#
# Runs the test in a private world, points Test::Nginx at the built module
# and at a folder of the test's own, and gives every block a zone, a route
# store and a clean error log:
#
#   $TEST_NGINX_HATCH_DIR     a folder that workers may use
#   --- zone                  ID STATE ADDRESS lines; published before nginx
#                             starts (the default is the VMs below)
#   --- zone_options          options of zone-poke
#   --- routes                ID VM SUBDOMAIN PORT lines, added to the store
#   --- no_zone               nothing is published
#
# Without --- http_config a block gets hatch_zone, hatch_route_store and
# upstream vms.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);

my ($top, $build);

BEGIN {
    $top = abs_path(dirname(__FILE__) . '/../../../..');
    $build = abs_path($ENV{HATCH_BUILD} || "$top/build");

    if (!$ENV{HATCH_WORLD}) {
        exec "$top/t/lib/world", '--no-libvirt', $^X, "-I$top/t/lib",
             abs_path($0), @ARGV or die "cannot enter a world: $!";
    }

    # on the world's tmpfs, which ends with it
    my $dir = tempdir('module.XXXXXX', DIR => '/run', CLEANUP => 1);
    chmod 0755, $dir;
    mkdir "$dir/servroot";
    $ENV{TEST_NGINX_SERVROOT} = "$dir/servroot";
    $ENV{TEST_NGINX_HATCH_DIR} = $dir;
    # a static build has none
    $ENV{TEST_NGINX_LOAD_MODULES} = join ' ',
        glob "$build/ngx_http_hatch_module.s[o]";
    $ENV{TEST_NGINX_MASTER_PROCESS} //= 'on';
    $ENV{TEST_NGINX_PORT} //= 1984;
    $ENV{TEST_NGINX_GUEST_PORT} = 1985;    # the network is the test's own

    # t/lib/watched-nginx: workers write here, too
    $ENV{HATCH_REPORTS} = "$dir/reports";
    mkdir "$dir/reports";
    chmod 01777, "$dir/reports";
}

my $reported = 0;

# An nginx that ends in main(), because of its configuration or after -t, leaves
# its first pool; with no module, too.
my $first_pool = qr/\A\s+=+\n
    ==\d+==ERROR:\ LeakSanitizer:\ detected\ memory\ leaks\n\n
    Direct\ leak\ of\ 1024\ byte.*\n .*posix_memalign.*\n .*ngx_memalign.*\n
    .*ngx_create_pool.*\n .*main\ src.*\n (?:\ +\#.*\n)*\n
    SUMMARY.*\ 1024\ byte.*\n*\z/x;

# Prints what a sanitizer or valgrind has written since the last look.
sub look_for_reports {
    my ($when) = @_;

    for my $file (grep -s, glob "$ENV{HATCH_REPORTS}/*") {
        open my $fh, '<', $file or die "$file: $!";
        my $text = do { local $/; <$fh> };
        unlink $file;
        next if $text =~ $first_pool;
        print STDERR "# reported $when:\n", $text =~ s/^/#   /gmr;
        $reported++;
    }

    # undefined behaviour goes there, and not each block looks for it
    open my $log, '<', "$ENV{TEST_NGINX_SERVROOT}/logs/error.log" or return;
    for my $line (grep /runtime error:/, <$log>) {
        print STDERR "# reported $when: $line";
        $reported++;
    }
}

# Here, so that it runs after the one of Test::Nginx, which ends nginx.
END {
    look_for_reports('until the end');
    $? ||= 1 if $reported;
}

use Test::Nginx::Socket;

my @vms = (
    'vm_running222222222 running 127.0.0.1',
    'vm_other22222222222 running 127.0.0.1',
    'vm_six2222222222222 running ::1',
    'vm_stopped222222222 stopped 127.0.0.1',
    'vm_paused2222222222 paused 127.0.0.1',
    'vm_error22222222222 error 127.0.0.1',
    'vm_noaddress2222222 running -',
);


sub run_tool {
    my ($tool, @args) = @_;
    system("$build/unit/$tool", @args) == 0 or die "$tool @args failed";
}


sub import {
    no_shuffle();
    no_root_location();
    no_long_string();
    log_level($ENV{TEST_NGINX_LOG_LEVEL} // 'info');
}


add_block_preprocessor(sub {
    my ($block) = @_;
    my $dir = $ENV{TEST_NGINX_HATCH_DIR};

    look_for_reports('before ' . $block->name);
    mkdir "$dir/run";

    if (defined $block->no_zone) {
        unlink "$dir/run/zone";

    } else {
        my @lines = defined $block->zone ? split /\n/, $block->zone : @vms;
        unlink "$dir/run/zone";
        run_tool('zone-poke', split(' ', $block->zone_options // ''),
                 "$dir/run/zone", 16384, map split, @lines);
    }

    if (defined $block->routes) {
        mkdir "$dir/routes", 0755;
        my $routes = $block->routes;
        $routes =~ s/\$TEST_NGINX_(\w+)/$ENV{"TEST_NGINX_$1"}/g;
        run_tool('route-poke', "$dir/routes", split ' ', $routes);
    }

    if (!defined $block->http_config) {
        $block->set_value('http_config', <<'EOF');
    hatch_zone $TEST_NGINX_HATCH_DIR/run/zone;
    hatch_route_store $TEST_NGINX_HATCH_DIR/routes size=64m;
    upstream vms {
        hatch;
    }
EOF
    }

    # more_http: what a file's own preprocessor adds (those run before this)
    $block->set_value('http_config', $block->http_config . $block->more_http)
        if defined $block->more_http;

    if (!defined $block->error_log && !defined $block->no_error_log
        && !defined $block->must_die)
    {
        $block->set_value('no_error_log',
                          "[alert]\n[crit]\n[emerg]\n[error]\n"
                          . "Sanitizer\nruntime error");
    }
});


1;
