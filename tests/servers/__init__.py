"""Claims that only hold if they hold on a real server: processes, sockets, signals, disks."""
