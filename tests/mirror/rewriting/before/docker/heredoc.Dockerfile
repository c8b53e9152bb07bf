FROM docker.io/kuzudb/explorer:0.7.1
RUN <<EOF
cat > /etc/motd <<TEXT
FROM kuzudb/explorer:0.1
TEXT
EOF
COPY <<"END" /entrypoint.sh
#!/bin/sh
exec docker run kuzudb/explorer
END
ENTRYPOINT ["/entrypoint.sh"]
