#!/bin/bash
# A real sshd in namespaces of its own (network, mounts, processes), with accounts, /dev/log and rsyslog of its own, and what is done to it.
#   logins.sh DIRECTORY attack|innocent
# Law: nothing of the machine is changed: passwd and shadow are copies in this mount namespace. DIRECTORY/auth.log is the result.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
here=$1
if [ "${3:-}" != inside ]; then
    exec unshare --net --mount --pid --fork --kill-child --propagation private "$0" "$here" "$2" inside
fi
ip link set lo up
{ cat /etc/passwd; echo "tamu:x:4242:4242::/tmp:/bin/sh"; } >"$here/passwd"
{ cat /etc/shadow; echo "tamu:$(openssl passwd -6 benar):19000:0:99999:7:::"; } >"$here/shadow"
mount --bind "$here/passwd" /etc/passwd
mount --bind "$here/shadow" /etc/shadow
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir /run/sshd
mkdir "$here/dev"
mount -t tmpfs tmpfs "$here/dev"
for node in null:1:3 zero:1:5 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r name major minor <<<"$node"
    mknod -m 666 "$here/dev/$name" c "$major" "$minor"
done
mkdir "$here/dev/pts"
mount --move "$here/dev" /dev
mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts
ln -s pts/ptmx /dev/ptmx
ln -s /proc/self/fd /dev/fd
cat >"$here/rsyslog.conf" <<CONF
module(load="imuxsock" SysSock.Name="/dev/log" SysSock.RateLimit.Interval="0")
auth,authpriv.* action(type="omfile" file="$here/auth.log" template="RSYSLOG_TraditionalFileFormat")
CONF
rsyslogd -n -f "$here/rsyslog.conf" -i "$here/rsyslog.pid" >"$here/rsyslog.out" 2>&1 &
for _ in $(seq 100); do [ -S /dev/log ] && break; sleep 0.05; done
ssh-keygen -q -t ed25519 -N '' -f "$here/host"
cat >"$here/sshd.conf" <<CONF
ListenAddress 127.0.0.1:2222
HostKey $here/host
PidFile $here/sshd.pid
UsePAM yes
PasswordAuthentication yes
MaxStartups 100
LogLevel INFO
CONF
/usr/sbin/sshd -f "$here/sshd.conf"
for _ in $(seq 100); do (exec 3<>/dev/tcp/127.0.0.1/2222) 2>/dev/null && break; sleep 0.05; done
try() { # USER PASSWORD [OPTION...]
    local user=$1 password=$2
    shift 2
    sshpass -p "$password" ssh -F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o NumberOfPasswordPrompts=1 \
        -o PreferredAuthentications=publickey,password -p 2222 "$@" "$user@127.0.0.1" true >/dev/null 2>&1 || true
}
case $2 in
attack)
    for n in 1 2 3 4 5 6; do try tamu "salah$n" -o PubkeyAuthentication=no & waits+=($!); done
    for user in root admin; do try "$user" salah -o PubkeyAuthentication=no & waits+=($!); done
    wait "${waits[@]}"
    try tamu benar -o PubkeyAuthentication=no
    ;;
innocent)
    for n in 1 2 3; do ssh-keygen -q -t ed25519 -N '' -f "$here/key$n"; done
    for _ in 1 2 3 4; do try tamu benar -i "$here/key1" -i "$here/key2" -i "$here/key3" & waits+=($!); done # keys that don't fit, then the password
    wait "${waits[@]}"
    for _ in $(seq 30); do (exec 3<>/dev/tcp/127.0.0.1/2222) 2>/dev/null; done # monitors
    ssh-keyscan -p 2222 127.0.0.1 >/dev/null 2>&1 || true
    for n in 1 2; do try tamu salah -o PubkeyAuthentication=no & waits+=($!); done # a person who mistypes
    wait "${waits[@]}" || true
    try tamu benar -o PubkeyAuthentication=no
    ;;
esac
sleep 0.3
kill "$(cat "$here/rsyslog.pid")"
wait || true
