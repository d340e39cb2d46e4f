#!/bin/sh
# Makes a drop-in for an installed library out of what we have: a version script with every name of the installed one under its own
# version, and C stubs for the names that we do not define.
#
#   symbols.sh INSTALLED STUB SCRIPT STUBS OBJECT...
#
# STUB is what a stub does: "abort" (a private call that no program makes) or "enosys" (returns -1). The versions, and the number in
# those of the private ABI, are thus those that are installed, as for the programs that will run on it.
set -eu
export LC_ALL=C
installed=$1 stub=$2 script=$3 stubs=$4
shift 4
nm --defined-only --extern-only "$@" | awk 'NF == 3 { print $3 }' | sort -u >"$script.defined"
# Names in parentheses are old versions that only programs of long ago ask for.
objdump -T "$installed" | awk '/ g +D[FO] / && !/\*UND\*/ && !/\*ABS\*/ && $(NF-1) !~ /^\(/ { print $(NF-1), $NF, ($0 ~ / DO /) ? "object" : "function", $(NF-2) }' |
  sort -u >"$script.wanted"
awk '
  $1 != version { if (version) print "};"; version = $1; print version " {"; print "global:" }
  { print "  " $2 ";" }
  END { print "};"; print "SOFTNIC { local: *; };" }
' "$script.wanted" >"$script"
{
  echo '#include <errno.h>'
  echo '#include <stdio.h>'
  echo '#include <stdlib.h>'
  awk -v stub="$stub" '
    NR == FNR { defined[$1] = 1; next }
    $2 in defined { next }
    $3 == "object" { printf "char %s[0x%s];\n", $2, $4; next }
    { printf "long %s(void);\nlong %s(void) {\n", $2, $2 }
    $2 ~ /^verbs_register_driver_/ { print "  return 0; /* providers announce themselves when they are loaded */\n}"; next }
    stub == "enosys" { print "  errno = ENOSYS;\n  return -1;\n}"; next }
    { printf "  fputs(\"softnic: %s is not provided\\n\", stderr);\n  abort();\n}\n", $2 }
  ' "$script.defined" "$script.wanted"
} >"$stubs"
