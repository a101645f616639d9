package Test::Hatch::Ledger;

# What was asked for and what was acknowledged, as it happens, by clients that
# outlive the host they talk to.
#
# All that may be written is a key with a value: "route/shop" has a port, a key
# without a value is not there.  A client notes each try before it sends it, and
# each acknowledgement as soon as it has it, a line each; a try that was not
# acknowledged may have happened or not.  A key is written by one client.

use strict;
use warnings;

use JSON::PP;

my $json = JSON::PP->new->utf8->canonical;


sub new {
    my ($class, $file) = @_;
    open my $fh, '>>', $file or die "$file: $!";
    return bless { file => $file, fh => $fh }, $class;
}


# One call of write() for each line: whoever is killed leaves no half one.
sub note {
    my ($self, @what) = @_;
    defined syswrite $self->{fh}, $json->encode(\@what) . "\n"
        or die "$self->{file}: $!";
}


sub try { my ($self, $key, $value) = @_; $self->note('try', $key, $value) }
sub ack { my ($self, $key, $value) = @_; $self->note('ack', $key, $value) }


# Key => the values that it may have now, with the one acknowledged last first.
sub expected {
    my ($self) = @_;
    my %may;

    open my $fh, '<', $self->{file} or die "$self->{file}: $!";
    while (my $line = <$fh>) {
        my ($what, $key, $value) = @{ $json->decode($line) };
        if ($what eq 'try') {
            push @{ $may{$key} //= [ undef ] }, $value;
        } else {
            $may{$key} = [ $value ];
        }
    }

    return \%may;
}


# How many were acknowledged so far.
sub acknowledged {
    my ($self) = @_;
    my $n = 0;

    open my $fh, '<', $self->{file} or die "$self->{file}: $!";
    while (my $line = <$fh>) { $n++ if $line =~ /^\["ack"/ }
    return $n;
}


# What is not as it may be, a line each.  What is found counts from now on.
sub wrong {
    my ($self, $found) = @_;
    my $may = $self->expected;
    my @wrong;

    for my $key (sort keys %{ { %$may, %$found } }) {
        my $is = $found->{$key};
        my @may = @{ $may->{$key} // [ undef ] };
        push @wrong, "$key is " . ($is // 'not there') . ', not '
                     . join ' or ', map $_ // 'not there', @may
            if !grep { ($_ // '') eq ($is // '') } @may;
        $self->ack($key, $is) if @may > 1;
    }

    return @wrong;
}


1;
