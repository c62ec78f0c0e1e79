#!/bin/sh
# Installs Debian's PostgreSQL 15 for the tests, without a cluster or a service of its own. Ends with 1, saying why, where
# that cannot be done.
set -eu
[ -x /usr/lib/postgresql/15/bin/initdb ] && exit 0
[ "$(id -u)" = 0 ] || { echo "PostgreSQL 15 is not installed, and only root could do that: apt-get install postgresql-15"; exit 1; }
command -v apt-get > /dev/null || { echo "PostgreSQL 15 is not installed, and this system has no apt-get"; exit 1; }
mkdir -p /etc/postgresql-common/createcluster.d
echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.d/nself-realtime.conf
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql-15; } > /dev/null 2>&1 ||
  { echo "PostgreSQL 15 could not be installed: this system's packages have none, or cannot be reached"; exit 1; }
