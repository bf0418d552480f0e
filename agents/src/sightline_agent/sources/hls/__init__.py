"""HLS playlists (RFC 8216): read, followed, and their segments taken apart."""
