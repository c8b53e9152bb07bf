# escape=`
FROM mcr.microsoft.com/windows/nanoserver:ltsc2022
COPY --from=kuzudb/explorer:windows `
     C:\app C:\app
RUN dir `
    C:\
