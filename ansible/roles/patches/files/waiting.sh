# Prints what waits for a reboot, a line each: packages, or a kernel newer than the one that runs.
running=/boot/vmlinuz-$(uname --kernel-release)
newest=$(find /boot -name 'vmlinuz-*' | sort --version-sort | tail --lines 1)
if [ -e /run/reboot-required.pkgs ]; then
  sort --unique /run/reboot-required.pkgs
elif [ -e /run/reboot-required ]; then
  echo "an update"
elif [ -e "$running" ] && [ "$running" != "$newest" ]; then
  echo "$newest"
fi
