#!/usr/bin/perl

# A creation under which another client pulls the plug: while libvirt waits
# for a QEMU that has begun and says nothing.  In front of QEMU stands a script
# that holds each guest up until it is killed.

use strict;
use warnings;

use Test::Hatch world => 'libvirt';
use Test::More;

# outside of $dir, which cannot be removed while something is mounted there
my ($qemu, $real) = ('/usr/bin/qemu-system-x86_64', '/run/qemu');
write_file($real, '');
write_file("$dir/held.sh", <<"END");
#!/bin/sh
case "\$*" in
*guest=vm_*)
    echo > "$dir/held"
    read -r never < "$dir/never"
esac
exec $real "\$@"
END
chmod 0755, "$dir/held.sh";
system('mkfifo', "$dir/never") == 0 or die;
system('mount', '--bind', $qemu, $real) == 0 or die;
system('mount', '--bind', "$dir/held.sh", $qemu) == 0 or die;

start_agent(connect => 'qemu:///system', env => { HATCH_LOG_LEVEL => 'info' });
start_nginx();

# Creates a VM and calls the code with its id once QEMU is held: the answers.
sub create_and {
    my ($code) = @_;
    unlink "$dir/held";
    my $pid = fork // die;

    if (!$pid) {
        my $r = api('POST', '/vms', {}) // { status => 0, body => '' };
        write_file("$dir/answer", "$r->{status} $r->{body}");
        POSIX::_exit(0);
    }

    wait_until('QEMU is held', sub { -e "$dir/held" })
        or diag(slurp("$dir/answer"));
    my ($vm) = @{ api('GET', '/vms')->{json} };
    is($vm->{state}, 'starting', 'it is starting');
    my $answer = $code->($vm->{id});
    waitpid $pid, 0;
    return ($vm->{id}, $answer, slurp("$dir/answer"));
}

for my $case (
    [ stop => sub { api('POST', "/vms/$_[0]/stop", { force => JSON::PP::true }) } ],
    [ delete => sub { api('DELETE', "/vms/$_[0]") } ],
) {
    my ($what, $code) = @$case;
    my ($id, $other, $answer) = create_and($code);
    like($answer, qr/^409 /, "$what: the creation is 409") or diag $answer;
    is(json(substr $answer, 4)->{code}, 'conflict', 'its code');
    like($answer, qr/VM \\"$id\\" was stopped or deleted by force meanwhile/,
         'and it says why');
    is($other->{status}, 404, "$what itself: no such VM any more");
    is(api('GET', "/vms/$id")->{status}, 404, 'the VM is gone');
    unlike(virsh('list --all --name'), qr/vm_/, 'libvirt has none');
    is_deeply([glob "$dir/state/{disks,seeds,pending}/*"], [],
              'and no file is left');
}

# asked before it was up
allow_log(qr/connect\(\) failed/);
done();
