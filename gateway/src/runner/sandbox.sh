# Builds a world of its own around one program and runs it. Fixed text: nothing of a task is ever part of it;
# files of a task are data in a folder, and the arguments are the operator's and the language table's.
#
#   $1 folder with `root` (empty), `files` (the task's) and, once all is set up, `ready`
#   $2 bytes of its disk    $3 seconds after which it is ended from within
#   then paths to show read only, `--`, and the program with its arguments
#
# It runs as the first process of new user, mount, process, network and IPC namespaces, and stays the first:
# when it ends, everything in them ends.
set -eu
for path in /proc/self/fd/*; do
  n=${path##*/}
  case $n in 0 | 1 | 2) ;; *) eval "exec $n>&-" ;; esac
done
root=$1/root files=$1/files ready=$1/ready disk=$2 seconds=$3
shift 3

only_read() { mount -o remount,bind,ro,nosuid,nodev "$1"; }

show() {
  mkdir -p "$root${1%/*}"
  if [ -L "$1" ]; then
    cp -P "$1" "$root$1"
  elif [ -d "$1" ]; then
    mkdir -p "$root$1"
    mount --rbind "$1" "$root$1"
    only_read "$root$1"
    while read -r _ _ _ _ point _; do
      case $point in "$root$1"/*) only_read "$point" ;; esac
    done </proc/self/mountinfo
  else
    : >"$root$1"
    mount --bind "$1" "$root$1"
    only_read "$root$1"
  fi
}

mount -t tmpfs -o "size=1m,mode=755,nosuid,nodev" turnout "$root"
mkdir -p "$root/dev/shm" "$root/proc" "$root/scratch" "$root/task" "$root/tmp" "$root/mnt"
for name in null zero full random urandom; do
  : >"$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o "size=$disk,nr_inodes=16384,mode=755,nosuid,nodev" turnout "$root/scratch"
mkdir "$root/scratch/task" "$root/scratch/tmp" "$root/scratch/shm"
mount --bind "$root/scratch/task" "$root/task"
mount --bind "$root/scratch/tmp" "$root/tmp"
mount --bind "$root/scratch/shm" "$root/dev/shm"
# After the disk, so that a folder below /tmp or /task can be shown as well.
while [ "$1" != -- ]; do
  show "$1"
  shift
done
shift
cp -R "$files/." "$root/task/"
mount -t proc -o ro,nosuid,nodev,noexec proc "$root/proc"
# No further namespaces from within.
echo 0 >/proc/sys/user/max_user_namespaces
only_read "$root"
: >"$ready"

cd "$root"
pivot_root . mnt
cd /task
umount -l /mnt
exec </dev/null
set +e
timeout -s KILL "$seconds" "$@"
exit $?
