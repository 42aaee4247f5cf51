#!/bin/sh
# Lays out the root of witgate's image: the binary, what it is linked with, the certificate authorities, and one user. Nothing else: no
# shell, no package manager. deploy/Dockerfile runs it; so does whoever wants to see what is in the image:
#
#   deploy/image-root.sh target/release/witgate /tmp/image
set -eu
if [ $# -ne 2 ]; then
    echo "usage: $0 BINARY FOLDER" >&2
    exit 2
fi
binary=$1
root=$2

install -D -m 0755 "$binary" "$root/usr/local/bin/witgate"

# The libraries at the paths at which the loader looks for them, links followed.
ldd "$binary" | awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }' | while read -r library; do
    install -D -m 0755 "$(readlink -f "$library")" "$root$library"
done

install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
echo 'witgate:x:65532:65532:witgate:/:/nonexistent' > "$root/etc/passwd"
echo 'witgate:x:65532:' > "$root/etc/group"

# Where the configuration, the drop-in folder and the cache are mounted.
install -d -m 0755 "$root/etc/witgate" "$root/var/lib/witgate/plugins"
# Anybody may make a folder here, as in /tmp: some engines give a mount the mode of what it covers.
install -d -m 1777 "$root/var/cache/witgate"
