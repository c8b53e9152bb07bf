# escape=`
FROM mcr.microsoft.com/windows/nanoserver:ltsc2022
COPY --from=ghcr.io/kuzudb/explorer:windows `
     C:\app C:\app
RUN dir `
    C:\
