"""Suppliers' servers: real SFTP server processes on this machine, and lines that break."""
